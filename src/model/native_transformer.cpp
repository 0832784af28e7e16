#include "model/native_transformer.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/profile.h"
#include "model/native_adapters.h"
#include "native/activation_op.h"
#include "native/attention_op.h"
#include "native/cross_entropy.h"
#include "native/head_op.h"
#include "native/norm_op.h"
#include "native/pooling_op.h"

namespace pf2lora {

using native::Graph;
using native::Numbers;
using native::Pass;
using native::Per;
using native::Reach;
using native::ValueId;
using torch::Tensor;

namespace {

constexpr int kNoSite = -1;
constexpr size_t kPrefixTokens = 512;  // that frozen states are computed for at once, about
constexpr size_t kPassBytes = size_t{24} << 20;  // of a gradient of several clients at once, about

native::Activation activation(const std::string& name) {
  return name == "relu"   ? native::Activation::relu
         : name == "gelu" ? native::Activation::gelu
                          : native::Activation::gelu_tanh;
}

native::BatchShape shape_of(const Batch& batch) {
  return {batch.token_offsets, batch.client_offsets};
}

template <class T>
std::vector<T> copy(const Tensor& x) {
  const Tensor contiguous = x.contiguous();
  return {contiguous.data_ptr<T>(), contiguous.data_ptr<T>() + contiguous.numel()};
}

Tensor client_means(const Tensor& losses, const Batch& batch) {
  std::vector<Tensor> means;
  for (size_t g = 0; g + 1 < batch.client_offsets.size(); ++g)
    means.push_back(losses.slice(0, batch.client_offsets[g], batch.client_offsets[g + 1]).mean());
  return torch::stack(means);
}

}  // namespace

template <class T>
struct NativeTransformer<T>::Run final : GradientPass, OutputPass {
  Run(const native::Kernels<T>& kernels, native::Pool<T>& pool, const Batch& batch, AdapterSet values,
      Reach reach)
      : adapters(contiguous(values)), pass(kernels, pool, shape_of(batch), reach) {}
  AdapterSet adapters;
  Pass<T> pass;
};

template <class T>
bool NativeTransformer<T>::covers(const ModelConfig& config, const Readout& readout) {
  return config.norm == NormKind::layer && config.norm_place == NormPlace::after && !config.causal &&
         config.position_kind == PositionKind::learned && config.activation != "silu" &&
         readout.task == Task::classification && readout.pooling != Pooling::last && !readout.dense;
}

template <class T>
std::vector<ValueId> NativeTransformer<T>::Start::all() const {
  std::vector<ValueId> ids{hidden};
  for (const auto& ready : {key, value, query})
    if (ready) ids.push_back(*ready);
  return ids;
}

template <class T>
NativeTransformer<T>::NativeTransformer(const TransformerWeights& weights, std::vector<Site> sites, Readout readout,
                                        int64_t prefix_cache_bytes, native::Storage storage)
    : config_(weights.config),
      sites_(std::move(sites)),
      readout_(readout),
      head_{readout.classes, weights.config.hidden},
      lowest_layer_(lowest_layer(sites_, weights.config.layers)),
      all_ask_(lowest_layer_ + 1 < weights.config.layers || readout.pooling == Pooling::mean),
      frozen_parameters_(weights.parameters()),
      words_(weights.words),
      positions_(weights.positions),
      embedding_gain_(copy<T>(weights.embedding_norm.weight)),
      embedding_shift_(copy<T>(weights.embedding_norm.bias)),
      block_(kernels_, storage),
      cache_(prefix_cache_bytes),
      features_(prefix_cache_bytes) {
  for (const Site& site : sites_) site_shapes_.push_back({site.rows, site.columns});
  build_below(weights);
  build_above(weights, sites_by_layer(sites_, config_.layers));
}

// ---- the network ------------------------------------------------------------------------------------------

template <class T>
native::FrozenLayer<T> NativeTransformer<T>::frozen(const FrozenLinear& linear, int64_t blocks,
                                                Direction direction, bool value, bool gradient) {
  const auto held = std::make_shared<const Tensor>(linear.weight.contiguous());
  const int64_t out = held->size(0) / blocks, in = held->size(1);
  const bool forwards = direction == Direction::forwards;
  native::FrozenLayer<T> layer;
  for (int64_t b = 0; b < blocks; ++b) {
    const std::shared_ptr<const T> weight(held, held->template data_ptr<T>() + b * out * in);
    const auto transposed = [&] { return block_.add(weight, 1, in, in, out); };
    const auto plain = [&] { return block_.add(weight, in, 1, out, in); };
    layer.value.emplace_back();
    layer.gradient.emplace_back();
    if (value) layer.value.back() = forwards ? transposed() : plain();
    if (gradient) layer.gradient.back() = forwards ? plain() : transposed();
  }
  if (forwards) layer.bias = copy<T>(linear.bias);
  return layer;
}

template <class T>
ValueId NativeTransformer<T>::linear(Graph<T>& graph, ValueId x, const FrozenLinear& layer, int site, Per per,
                                 std::optional<ValueId> ready) {
  if (ready && site == kNoSite) return *ready;
  const int64_t out = layer.weight.size(0), in = layer.weight.size(1);
  std::vector<ValueId> inputs{x};
  if (ready) inputs.push_back(*ready);
  return graph.add(std::make_unique<native::LinearOperation<T>>(
                       frozen(layer, 1, Direction::forwards, !ready, graph.active(x)), in, site),
                   inputs, per, out);
}

template <class T>
ValueId NativeTransformer<T>::by_head(Graph<T>& graph, ValueId x, const FrozenLinear& layer, int site,
                                  Direction direction) {
  const int64_t heads = config_.heads, hidden = config_.hidden;
  const bool forwards = direction == Direction::forwards;
  if (site != kNoSite) site_shapes_[size_t(site)].blocks = heads;
  return graph.add(
      std::make_unique<native::LinearOperation<T>>(frozen(layer, heads, direction, true, graph.active(x)),
                                                   forwards ? hidden : hidden / heads, site, direction),
      {x}, Per::example, forwards ? hidden : heads * hidden);
}

template <class T>
ValueId NativeTransformer<T>::norm(Graph<T>& graph, ValueId a, ValueId b, const FrozenNorm& norm, Per per) const {
  return graph.add(std::make_unique<native::AddNormOperation<T>>(copy<T>(norm.weight), copy<T>(norm.bias),
                                                                 config_.norm_epsilon),
                   {a, b}, per, config_.hidden);
}

// What each asking token, `top`, reads of all tokens.
//
// Where one token asks, keys and values of the others need not be made: with q_h, W_h and b_h of a head and
// the weights w of its softmax, q_h (x W_h^T + b_h)^T is (q_h W_h) x^T but for a constant, which the softmax
// takes away, and w (x W_h^T + b_h) is (w x) W_h^T + b_h. So the projections have a row for each head of an
// example in place of one for each token.
template <class T>
ValueId NativeTransformer<T>::attention(Graph<T>& graph, const TransformerLayer& layer, const Start& in,
                                    const LayerSites& sites, Per per, ValueId top) {
  const int64_t heads = config_.heads, hidden = config_.hidden;
  native::AttentionHeads shape{
      .count = heads, .width = hidden / heads, .scale = 1 / std::sqrt(double(hidden / heads))};
  const auto attend = [&](ValueId query, ValueId key, ValueId value, int64_t width) {
    return graph.add(std::make_unique<native::AttentionOperation<T>>(shape), {query, key, value}, per, width);
  };
  const ValueId query = linear(graph, top, layer.query, sites.query, per, in.query);
  if (per == Per::example && !in.key) {
    const ValueId asked = by_head(graph, query, layer.key, sites.key, Direction::backwards);
    shape = {.count = 1, .width = hidden, .queries = heads, .scale = shape.scale};
    return by_head(graph, attend(asked, in.hidden, in.hidden, heads * hidden), layer.value, sites.value,
                   Direction::forwards);
  }
  shape.queries = per == Per::example ? 1 : 0;
  const ValueId key = linear(graph, in.hidden, layer.key, sites.key, Per::token, in.key);
  const ValueId value = linear(graph, in.hidden, layer.value, sites.value, Per::token, in.value);
  return attend(query, key, value, hidden);
}

// One transformer layer; with `per` example only the first token of each asks, and only its state comes out.
template <class T>
ValueId NativeTransformer<T>::encoder_layer(Graph<T>& graph, const TransformerLayer& layer, const Start& in,
                                        const LayerSites& sites, Per per) {
  const ValueId top = per == Per::token ? in.hidden
                                        : graph.add(std::make_unique<native::FirstOperation<T>>(),
                                                    {in.hidden}, per, config_.hidden);
  const ValueId mixed = attention(graph, layer, in, sites, per, top);
  const ValueId attended = linear(graph, mixed, layer.attention_output, sites.attention_output, per);
  const ValueId middle = norm(graph, attended, top, layer.attention_norm, per);
  const ValueId wide = linear(graph, middle, layer.intermediate, sites.intermediate, per);
  const ValueId active =
      graph.add(std::make_unique<native::ActivationOperation<T>>(activation(config_.activation)), {wide}, per,
                config_.intermediate);
  return norm(graph, linear(graph, active, layer.output, sites.output, per), middle, layer.output_norm, per);
}

template <class T>
void NativeTransformer<T>::build_below(const TransformerWeights& weights) {
  below_input_ = below_.input(Per::token, config_.hidden);
  below_end_.hidden = below_input_;
  if (lowest_layer_ == 0) return;
  for (int64_t layer = 0; layer < lowest_layer_; ++layer)
    below_end_.hidden =
        encoder_layer(below_, weights.layers[size_t(layer)], {below_end_.hidden, {}, {}, {}}, {}, Per::token);
  const TransformerLayer& next = weights.layers[size_t(lowest_layer_)];
  const auto project = [&](const FrozenLinear& projection) {
    return linear(below_, below_end_.hidden, projection, kNoSite, Per::token);
  };
  below_end_.key = project(next.key);
  below_end_.value = project(next.value);
  if (all_ask_) below_end_.query = project(next.query);
}

template <class T>
void NativeTransformer<T>::build_above(const TransformerWeights& weights, const std::vector<LayerSites>& sites) {
  const Pooling pooling = readout_.pooling;
  const auto input = [&] { return above_.input(Per::token, config_.hidden); };
  above_start_.hidden = input();
  if (below_end_.key) above_start_.key = input();
  if (below_end_.value) above_start_.value = input();
  if (below_end_.query) above_start_.query = input();
  Start state = above_start_;
  for (int64_t layer = lowest_layer_; layer < config_.layers; ++layer) {
    const bool first_only = layer + 1 == config_.layers && pooling != Pooling::mean;
    state = {encoder_layer(above_, weights.layers[size_t(layer)], state, sites[size_t(layer)],
                           first_only ? Per::example : Per::token),
             {},
             {},
             {}};
  }
  pooled_ = state.hidden;
  if (pooling == Pooling::mean)
    pooled_ =
        above_.add(std::make_unique<native::MeanOperation<T>>(), {pooled_}, Per::example, config_.hidden);
  if (pooling == Pooling::pooler)
    pooled_ = above_.add(std::make_unique<native::ActivationOperation<T>>(native::Activation::tanh),
                         {linear(above_, pooled_, weights.pooler, kNoSite, Per::example)}, Per::example,
                         config_.hidden);
  scores_ = above_.add(std::make_unique<native::HeadOperation<T>>(config_.hidden), {pooled_}, Per::example,
                       head_.out);
}

// ---- under the lowest site --------------------------------------------------------------------------------

template <class T>
int64_t NativeTransformer<T>::cached_bytes_per_token() const {
  return lowest_layer_ == 0 ? 0 : int64_t(below_end_.all().size()) * config_.hidden * int64_t(sizeof(T));
}

// The sum of word, position and token type embedding after their norm: [T, hidden].
template <class T>
Numbers<T> NativeTransformer<T>::embed(const Batch& batch) const {
  const int64_t hidden = config_.hidden, tokens = int64_t(batch.tokens.size());
  const T* words = words_.template data_ptr<T>();
  const T* positions = positions_.template data_ptr<T>();
  const int64_t type_size = positions_.size(1) * hidden;
  const Numbers<T> word = pool_.take(tokens * hidden), position = pool_.take(tokens * hidden),
                   normal = pool_.take(tokens * hidden), scale = pool_.take(tokens);
  for (size_t i = 0; i + 1 < batch.token_offsets.size(); ++i)
    for (int64_t t = batch.token_offsets[i]; t < batch.token_offsets[i + 1]; ++t) {
      std::copy_n(words + batch.tokens[size_t(t)] * hidden, hidden, &word[t * hidden]);
      const int64_t type = batch.token_types.empty() ? 0 : batch.token_types[size_t(t)];
      std::copy_n(positions + type * type_size + (t - batch.token_offsets[i]) * hidden, hidden,
                  &position[t * hidden]);
    }
  const Numbers<T> out = pool_.take(tokens * hidden);
  kernels_.add_norm(tokens, hidden, word.get(), position.get(), embedding_gain_.data(),
                    embedding_shift_.data(), config_.norm_epsilon, normal.get(), scale.get(), out.get());
  return out;
}

template <class T>
std::string NativeTransformer<T>::backend() const {
  return std::string("native ") + kernels_.name + (block_.storage() == native::Storage::bf16 ? " bf16" : "");
}

// Of each example of a batch [states, tokens, hidden]: the states under the lowest site, hidden first.
template <class T>
std::vector<Tensor> NativeTransformer<T>::prefixes(const Batch& batch) const {
  const std::vector<ValueId> ends = below_end_.all();
  const int64_t hidden = config_.hidden;
  Pass<T> pass(kernels_, pool_, shape_of(batch), Reach::value);
  below_.prepare(pass);
  pass.value[size_t(below_input_)] = embed(batch);
  below_.value(pass, ends);
  std::vector<Tensor> prefixes;
  for (size_t i = 0; i + 1 < batch.token_offsets.size(); ++i) {
    const int64_t begin = batch.token_offsets[i], tokens = batch.token_offsets[i + 1] - begin;
    Tensor states = torch::empty({int64_t(ends.size()), tokens, hidden}, options());
    for (size_t s = 0; s < ends.size(); ++s)
      std::copy_n(&pass.value[size_t(ends[s])][begin * hidden], tokens * hidden,
                  states[int64_t(s)].template data_ptr<T>());
    prefixes.push_back(states);
  }
  return prefixes;
}

// Sets the inputs of the graph above.
template <class T>
void NativeTransformer<T>::start(const Batch& batch, Pass<T>& pass) const {
  if (lowest_layer_ == 0) {
    pass.value[size_t(above_start_.hidden)] = embed(batch);
    return;
  }
  const auto compute = [&](const std::vector<size_t>& places) {
    std::vector<Tensor> all;
    for (size_t begin = 0, end = 0; begin < places.size(); begin = end) {
      for (size_t tokens = 0; end < places.size() && tokens < kPrefixTokens; ++end)
        tokens += size_t(batch.token_offsets[places[end] + 1] - batch.token_offsets[places[end]]);
      const auto some = prefixes(take_examples(batch, std::span(places).subspan(begin, end - begin)));
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  };
  const std::vector<Tensor> prefixes = cache_.get(batch.examples, compute);
  const std::vector<ValueId> inputs = above_start_.all();
  for (size_t s = 0; s < inputs.size(); ++s) {
    Numbers<T>& input = pass.value[size_t(inputs[s])];
    input = pool_.take(pass.batch.rows(Per::token) * config_.hidden);
    for (size_t i = 0; i < prefixes.size(); ++i) {
      const Tensor state = prefixes[i][int64_t(s)];
      std::copy_n(state.template data_ptr<T>(), state.numel(),
                  &input[batch.token_offsets[i] * config_.hidden]);
    }
  }
}

// ---- the questions ----------------------------------------------------------------------------------------

template <class T>
std::unique_ptr<typename NativeTransformer<T>::Run> NativeTransformer<T>::run(const Batch& batch,
                                                                      const AdapterSet& adapters,
                                                                      Reach reach) const {
  auto run = std::make_unique<Run>(kernels_, pool_, batch, adapters, reach);
  {
    const ProfileSpan span("encoder", "pack adapters");
    run->pass.adapters = native::pack_adapters(kernels_, pool_, view_of<T>(run->adapters), site_shapes_,
                                               head_);
  }
  above_.prepare(run->pass);
  {
    const ProfileSpan span("encoder", "states under the adapters");
    start(batch, run->pass);
  }
  above_.value(run->pass, std::array{scores_});
  return run;
}

template <class T>
Tensor NativeTransformer<T>::scores(const Run& run) const {
  const Tensor scores = torch::empty({run.pass.batch.examples(), head_.out}, options());
  std::copy_n(run.pass.value[size_t(scores_)].get(), scores.numel(), scores.template data_ptr<T>());
  return scores;
}

template <class T>
AdapterSet NativeTransformer<T>::gradient_of(Run& run, const T* d_scores) const {
  const int64_t count = run.pass.batch.examples() * head_.out;
  Numbers<T>& gradient = run.pass.gradient[size_t(scores_)];
  gradient = pool_.take(count);
  std::copy_n(d_scores, count, gradient.get());
  AdapterSet rows = empty_like(run.adapters);
  run.pass.target = target_of<T>(rows);
  above_.gradient(run.pass);
  return rows;
}

template <class T>
Losses NativeTransformer<T>::loss(const Batch& batch, const AdapterSet& adapters) const {
  return output_loss(batch, output(batch, adapters, Keep::nothing).values).examples;
}

// Of about as many numbers as a layer keeps for its gradient.
template <class T>
bool NativeTransformer<T>::is_large(const Batch& batch) const {
  const int64_t kept = (config_.layers - lowest_layer_) * (6 * config_.hidden + config_.intermediate);
  return batch.tokens.size() * size_t(kept) * sizeof(T) > kPassBytes;
}

template <class T>
Gradient NativeTransformer<T>::gradient_by_client(const Batch& batch, const AdapterSet& adapters) const {
  const std::vector<Tensor> tensors = adapters.tensors();
  std::vector<Tensor> losses;
  std::vector<std::vector<Tensor>> rows(tensors.size());
  for (size_t g = 0; g < batch.clients.size(); ++g) {
    std::vector<Tensor> own;
    for (const Tensor& tensor : tensors) own.push_back(tensor.narrow(0, int64_t(g), 1));
    AdapterSet of_client = adapters.with_tensors(own);
    if (adapters.rank_weights.defined())
      of_client.rank_weights =
          adapters.rank_weights.slice(0, batch.client_offsets[g], batch.client_offsets[g + 1]);
    const Gradient gradient = this->gradient(take_client(batch, g), of_client, Keep::nothing);
    losses.push_back(gradient.loss);
    const std::vector<Tensor> found = gradient.rows.tensors();
    for (size_t i = 0; i < rows.size(); ++i) rows[i].push_back(found[i]);
  }
  std::vector<Tensor> joined;
  for (const auto& parts : rows) joined.push_back(torch::cat(parts));
  return {torch::cat(losses), adapters.with_tensors(joined), nullptr};
}

template <class T>
Gradient NativeTransformer<T>::gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  if (keep == Keep::nothing && batch.clients.size() > 1 && is_large(batch))
    return gradient_by_client(batch, adapters);
  auto made = run(batch, adapters, keep == Keep::pass ? Reach::tangent : Reach::gradient);
  const OutputLoss worth = output_loss(batch, scores(*made));
  Gradient result{worth.loss, gradient_of(*made, worth.cotangent.template data_ptr<T>()), nullptr};
  if (keep == Keep::pass) result.pass = std::move(made);
  return result;
}

template <class T>
AdapterSet NativeTransformer<T>::tangent(GradientPass& kept, const AdapterSet& direction) const {
  Run& made = dynamic_cast<Run&>(kept);
  Pass<T>& pass = made.pass;
  const AdapterSet along = contiguous(direction);
  pass.direction = native::pack_adapters(kernels_, pool_, view_of<T>(along), site_shapes_, head_);
  above_.tangent(pass);
  const int64_t count = pass.batch.examples() * head_.out;
  const Numbers<T> moved = pool_.take(count);
  native::cross_entropy_gradient_tangent<T>({pass.value[size_t(scores_)].get(), size_t(count)},
                                            pass.tangent[size_t(scores_)].get(), pass.batch, moved.get());
  pass.gradient_tangent[size_t(scores_)] = moved;
  AdapterSet rows = empty_like(made.adapters);
  pass.target = target_of<T>(rows);
  above_.gradient_tangent(pass);
  return rows;
}

template <class T>
Output NativeTransformer<T>::output(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  auto made = run(batch, adapters, keep == Keep::pass ? Reach::gradient : Reach::value);
  const Tensor values = scores(*made);
  const Tensor example = torch::arange(values.size(0), torch::kInt64);
  if (keep == Keep::nothing) return {values, example, nullptr};
  return {values, example, std::move(made)};
}

template <class T>
OutputLoss NativeTransformer<T>::output_loss(const Batch& batch, const Tensor& output) const {
  const Tensor scores = output.contiguous();
  const std::span<const T> values(scores.template data_ptr<T>(), size_t(scores.numel()));
  const int64_t examples = scores.size(0);
  OutputLoss worth{{.loss = torch::empty({examples}, options()),
                    .predicted = torch::empty({examples}, torch::kInt64)},
                   {},
                   torch::empty_like(scores)};
  native::cross_entropy<T>(values, batch.labels, head_.out, worth.examples.loss.template data_ptr<T>(),
                           worth.examples.predicted.template data_ptr<int64_t>());
  worth.examples.correct = worth.examples.predicted.eq(torch::tensor(batch.labels));
  worth.loss = client_means(worth.examples.loss, batch);
  native::cross_entropy_gradient<T>(values, batch.labels, shape_of(batch),
                                    worth.cotangent.template data_ptr<T>());
  return worth;
}

template <class T>
AdapterSet NativeTransformer<T>::pullback(OutputPass& kept, const Tensor& cotangent) const {
  const Tensor d_scores = cotangent.contiguous();
  return gradient_of(dynamic_cast<Run&>(kept), d_scores.template data_ptr<T>());
}

template <class T>
Tensor NativeTransformer<T>::features(const Batch& batch) const {
  const auto compute = [&](const std::vector<size_t>& places) {
    const Batch some = take_examples(batch, places);
    Pass<T> pass(kernels_, pool_, shape_of(some), Reach::value);
    above_.prepare(pass);
    start(some, pass);
    above_.value(pass, std::array{pooled_});
    std::vector<Tensor> features;
    for (int64_t i = 0; i < pass.batch.examples(); ++i) {
      features.push_back(torch::empty({1, config_.hidden}, options()));
      std::copy_n(&pass.value[size_t(pooled_)][i * config_.hidden], config_.hidden,
                  features.back().template data_ptr<T>());
    }
    return features;
  };
  return torch::cat(features_.get(batch.examples, compute));
}

template class NativeTransformer<float>;
template class NativeTransformer<double>;

}  // namespace pf2lora
