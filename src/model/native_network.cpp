#include "model/native_network.h"

#include <torch/types.h>

#include <cmath>

#include "native/activation_op.h"
#include "native/attention_op.h"
#include "native/elementwise_op.h"
#include "native/head_op.h"
#include "native/norm_op.h"
#include "native/pooling_op.h"

namespace pf2lora {

using native::ValueId;
using torch::Tensor;

namespace {

constexpr int kNoSite = -1;

native::Activation activation(const std::string& name) {
  return name == "relu"   ? native::Activation::relu
         : name == "silu" ? native::Activation::silu
         : name == "tanh" ? native::Activation::tanh
         : name == "gelu" ? native::Activation::gelu
                          : native::Activation::gelu_tanh;
}

// A decoder's last token stands for an example as a target does, since attention by example is not causal.
native::Per scored_rows(const Readout& readout) {
  if (readout.task == Task::generation || (readout.by_example() && readout.pooling == Pooling::last))
    return native::Per::target;
  return readout.by_example() ? native::Per::example : native::Per::token;
}

}  // namespace

std::vector<ValueId> LayerStart::all() const {
  std::vector<ValueId> ids{hidden};
  for (const auto& ready : {key, value, query})
    if (ready) ids.push_back(*ready);
  return ids;
}

template <class T>
bool NativeNetwork<T>::covers(const ModelConfig& config, const Readout& readout) {
  const bool reads_first =
      readout.by_example() && (readout.pooling == Pooling::cls || readout.pooling == Pooling::pooler);
  return config.position_kind != PositionKind::relative && !(config.causal && reads_first);
}

template <class T>
NativeNetwork<T>::NativeNetwork(const TransformerWeights& weights, const std::vector<Site>& sites,
                                const Readout& readout, native::Storage storage)
    : block(kernels, storage),
      scored(scored_rows(readout)),
      config_(weights.config),
      readout_(readout),
      means_(readout.by_example() && readout.pooling == Pooling::mean),
      lowest_layer_(lowest_layer(sites, weights.config.layers)) {
  for (const Site& site : sites) site_shapes.push_back({site.rows, site.columns});
  if (config_.position_kind == PositionKind::rotary)
    rotary_ = std::make_shared<const native::RotaryTable<T>>(config_.rotary_frequencies, config_.positions);
  build_below(weights);
  build_above(weights, sites_by_layer(sites, config_.layers));
  build_scores(weights);
}

template <class T>
native::FrozenLayer<T> NativeNetwork<T>::frozen(const FrozenLinear& linear, int64_t blocks,
                                                Direction direction, bool value, bool gradient) {
  const auto held = std::make_shared<const Tensor>(linear.weight);
  const int64_t out = held->size(0) / blocks, in = held->size(1);
  const int64_t row = held->stride(0), column = held->stride(1);
  const bool forwards = direction == Direction::forwards;
  native::FrozenLayer<T> layer;
  for (int64_t b = 0; b < blocks; ++b) {
    const std::shared_ptr<const T> weight(held, held->template data_ptr<T>() + b * out * row);
    const auto transposed = [&] { return block.add(weight, column, row, in, out); };
    const auto plain = [&] { return block.add(weight, row, column, out, in); };
    layer.value.emplace_back();
    layer.gradient.emplace_back();
    if (value) layer.value.back() = forwards ? transposed() : plain();
    if (gradient) layer.gradient.back() = forwards ? plain() : transposed();
  }
  if (forwards) layer.bias = numbers_of<T>(linear.bias);
  return layer;
}

template <class T>
ValueId NativeNetwork<T>::linear(Graph& graph, ValueId x, const FrozenLinear& layer, int site, Per per,
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
ValueId NativeNetwork<T>::by_head(Graph& graph, ValueId x, const FrozenLinear& layer, int site,
                                  Direction direction) {
  const int64_t heads_there = config_.heads, hidden = config_.hidden, width = config_.query_width();
  const bool forwards = direction == Direction::forwards;
  if (site != kNoSite) site_shapes[size_t(site)].blocks = heads_there;
  return graph.add(std::make_unique<native::LinearOperation<T>>(
                       frozen(layer, heads_there, direction, true, graph.active(x)),
                       forwards ? hidden : width / heads_there, site, direction),
                   {x}, Per::example, forwards ? width : heads_there * hidden);
}

template <class T>
ValueId NativeNetwork<T>::norm(Graph& graph, std::vector<ValueId> of, const FrozenNorm& norm, Per per) const {
  const double epsilon = config_.norm_epsilon;
  auto operation = config_.norm == NormKind::layer
                       ? std::make_unique<native::AddNormOperation<T>>(numbers_of<T>(norm.weight),
                                                                       numbers_of<T>(norm.bias), epsilon)
                       : std::make_unique<native::AddNormOperation<T>>(numbers_of<T>(norm.weight), epsilon);
  return graph.add(std::move(operation), std::move(of), per, config_.hidden);
}

template <class T>
ValueId NativeNetwork<T>::add(Graph& graph, ValueId a, ValueId b, Per per) const {
  return graph.add(std::make_unique<native::AddOperation<T>>(), {a, b}, per, config_.hidden);
}

template <class T>
ValueId NativeNetwork<T>::active(Graph& graph, ValueId x, const std::string& name, Per per,
                                 int64_t width) const {
  return graph.add(std::make_unique<native::ActivationOperation<T>>(activation(name)), {x}, per, width);
}

template <class T>
ValueId NativeNetwork<T>::turned(Graph& graph, ValueId x, int64_t count) const {
  if (rotary_ == nullptr) return x;
  return graph.add(std::make_unique<native::RotaryOperation<T>>(count, config_.head_width, rotary_), {x},
                   Per::token, count * config_.head_width);
}

template <class T>
ValueId NativeNetwork<T>::rows_of(Graph& graph, ValueId tokens, Per per, int64_t width) const {
  if (per == Per::token) return tokens;
  if (per == Per::target)
    return graph.add(std::make_unique<native::TargetOperation<T>>(), {tokens}, per, width);
  return graph.add(std::make_unique<native::FirstOperation<T>>(), {tokens}, per, width);
}

// What each token of `asking` reads of all tokens, whose states are `read`.
//
// Where one token asks, keys and values of the others need not be made: with q_h, W_h and b_h of a head and
// the weights w of its softmax, q_h (x W_h^T + b_h)^T is (q_h W_h) x^T but for a constant, which the softmax
// takes away, and w (x W_h^T + b_h) is (w x) W_h^T + b_h. So the projections have a row for each head of an
// example in place of one for each token.
template <class T>
ValueId NativeNetwork<T>::attention(Graph& graph, const TransformerLayer& layer, const LayerStart& in,
                                    ValueId read, ValueId asking, Per per, const LayerSites& sites) {
  const int64_t count = config_.heads, hidden = config_.hidden, width = config_.query_width();
  native::AttentionHeads shape{.count = count,
                               .width = config_.head_width,
                               .causal = config_.causal,
                               .scale = 1 / std::sqrt(double(config_.head_width)),
                               .group = count / config_.key_heads};
  const auto attend = [&](ValueId query, ValueId key, ValueId value, int64_t columns) {
    return graph.add(std::make_unique<native::AttentionOperation<T>>(shape), {query, key, value}, per,
                     columns);
  };
  const ValueId query = linear(graph, asking, layer.query, sites.query, per, in.query);
  if (per == Per::example && !in.key && rotary_ == nullptr && shape.group == 1) {
    const ValueId asked = by_head(graph, query, layer.key, sites.key, Direction::backwards);
    shape = {.count = 1, .width = hidden, .queries = count, .scale = shape.scale};
    return by_head(graph, attend(asked, read, read, count * hidden), layer.value, sites.value,
                   Direction::forwards);
  }
  shape.queries = per == Per::example ? 1 : 0;
  const ValueId key = linear(graph, read, layer.key, sites.key, Per::token, in.key);
  const ValueId value = linear(graph, read, layer.value, sites.value, Per::token, in.value);
  return attend(turned(graph, query, count), turned(graph, key, config_.key_heads), value, width);
}

// One transformer layer; the last one is computed only for the rows that are scored.
template <class T>
ValueId NativeNetwork<T>::transformer_layer(Graph& graph, const TransformerLayer& layer, const LayerStart& in,
                                            const LayerSites& sites, Per per) {
  const bool before = config_.norm_place == NormPlace::before;
  const ValueId read = before ? norm(graph, {in.hidden}, layer.attention_norm, Per::token) : in.hidden;
  const ValueId top = rows_of(graph, in.hidden, per, config_.hidden);
  ValueId mixed;
  if (per == Per::target) {  // every token asks, and the targets' answers are taken
    const ValueId all = attention(graph, layer, in, read, read, Per::token, sites);
    mixed = rows_of(graph, all, per, config_.query_width());
  } else {
    const ValueId asking = before ? rows_of(graph, read, per, config_.hidden) : top;
    mixed = attention(graph, layer, in, read, asking, per, sites);
  }
  const ValueId attended = linear(graph, mixed, layer.attention_output, sites.attention_output, per);
  const ValueId middle =
      before ? add(graph, attended, top, per) : norm(graph, {attended, top}, layer.attention_norm, per);
  const ValueId inner = before ? norm(graph, {middle}, layer.output_norm, per) : middle;
  const int64_t width = config_.intermediate;
  ValueId wide = linear(graph, inner, layer.intermediate, sites.intermediate, per);
  if (config_.gated) {
    const ValueId gate = linear(graph, inner, layer.gate, sites.gate, per);
    wide = graph.add(std::make_unique<native::MultiplyOperation<T>>(),
                     {active(graph, gate, config_.activation, per, width), wide}, per, width);
  } else {
    wide = active(graph, wide, config_.activation, per, width);
  }
  const ValueId out = linear(graph, wide, layer.output, sites.output, per);
  return before ? add(graph, out, middle, per) : norm(graph, {out, middle}, layer.output_norm, per);
}

template <class T>
void NativeNetwork<T>::build_below(const TransformerWeights& weights) {
  below_input = below.input(Per::token, config_.hidden);
  below_end.hidden = below_input;
  if (lowest_layer_ == 0) return;
  for (int64_t i = 0; i < lowest_layer_; ++i)
    below_end.hidden =
        transformer_layer(below, weights.layers[size_t(i)], {below_end.hidden, {}, {}, {}}, {}, Per::token);
  const TransformerLayer& next = weights.layers[size_t(lowest_layer_)];
  const ValueId read = config_.norm_place == NormPlace::before
                           ? norm(below, {below_end.hidden}, next.attention_norm, Per::token)
                           : below_end.hidden;
  const auto project = [&](const FrozenLinear& projection) {
    return linear(below, read, projection, kNoSite, Per::token);
  };
  below_end.key = project(next.key);
  below_end.value = project(next.value);
  if (lowest_layer_ + 1 < config_.layers || scored != Per::example || means_)
    below_end.query = project(next.query);
}

template <class T>
void NativeNetwork<T>::build_above(const TransformerWeights& weights, const std::vector<LayerSites>& sites) {
  const auto input = [&](int64_t width) { return above.input(Per::token, width); };
  above_start.hidden = input(config_.hidden);
  if (below_end.key) above_start.key = input(config_.key_width());
  if (below_end.value) above_start.value = input(config_.key_width());
  if (below_end.query) above_start.query = input(config_.query_width());
  LayerStart state = above_start;
  Per per = Per::token;
  for (int64_t i = lowest_layer_; i < config_.layers; ++i) {
    if (i + 1 == config_.layers && !means_) per = scored;
    state = {transformer_layer(above, weights.layers[size_t(i)], state, sites[size_t(i)], per), {}, {}, {}};
  }
  pooled = state.hidden;
  if (weights.final_norm.weight.defined()) pooled = norm(above, {pooled}, weights.final_norm, per);
}

template <class T>
void NativeNetwork<T>::build_scores(const TransformerWeights& weights) {
  const int64_t hidden = config_.hidden;
  if (means_)
    pooled = above.add(std::make_unique<native::MeanOperation<T>>(), {pooled}, Per::example, hidden);
  if (readout_.by_example() && readout_.pooling == Pooling::pooler)
    pooled = active(above, linear(above, pooled, weights.pooler, kNoSite, scored), "tanh", scored, hidden);
  const auto head = head_shape(readout_, hidden);
  if (!head) {
    score_width = config_.vocabulary;
    scores = linear(above, pooled, {weights.scores, {}}, kNoSite, scored);
    return;
  }
  ValueId top = pooled;
  if (head->dense > 0) {
    top = above.add(std::make_unique<native::HeadOperation<T>>(hidden), {top}, scored, head->dense);
    top = active(above, top, config_.dense_activation, scored, head->dense);
    heads.push_back({head->dense, hidden});
  }
  const int64_t in = head->dense > 0 ? head->dense : hidden;
  score_width = head->classes;
  scores =
      above.add(std::make_unique<native::HeadOperation<T>>(in, heads.size()), {top}, scored, score_width);
  heads.push_back({score_width, in});
}

template class NativeNetwork<float>;
template class NativeNetwork<double>;

}  // namespace pf2lora
