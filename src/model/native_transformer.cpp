#include "model/native_transformer.h"

#include <torch/types.h>

#include <algorithm>
#include <numeric>

#include "core/profile.h"
#include "model/native_adapters.h"
#include "model/native_loss.h"

namespace pf2lora {

using native::Numbers;
using native::Pass;
using native::Per;
using native::Reach;
using native::ValueId;
using torch::Tensor;

namespace {

constexpr size_t kPrefixTokens = 512;            // that frozen states are computed for at once, about
constexpr size_t kPassBytes = size_t{24} << 20;  // of a gradient of several clients at once, about

// Targets are the tokens that others are generated from, or an example's last.
native::BatchShape shape_of(const Batch& batch, const Readout& readout) {
  native::BatchShape shape{.token_offsets = batch.token_offsets, .client_examples = batch.client_offsets};
  const bool generation = readout.task == Task::generation;
  if (!generation && (!readout.by_example() || readout.pooling != Pooling::last)) return shape;
  std::vector<int64_t> first = {0};  // target of each example
  for (size_t i = 0; i + 1 < batch.token_offsets.size(); ++i) {
    const int64_t end = batch.token_offsets[i + 1];
    int64_t row = generation ? batch.token_offsets[i] + batch.targets[i] - 1 : end - 1;
    for (const int64_t last = generation ? end - 1 : end; row < last; ++row) shape.target_rows.push_back(row);
    first.push_back(int64_t(shape.target_rows.size()));
  }
  for (const int64_t example : batch.client_offsets) shape.client_targets.push_back(first[size_t(example)]);
  return shape;
}

// [G] means over each client's units.
Tensor client_means(const Losses& losses, const Batch& batch) {
  std::vector<Tensor> means;
  for (size_t g = 0; g + 1 < batch.client_offsets.size(); ++g) {
    const auto own = [&](const Tensor& x) {
      return x.slice(0, batch.client_offsets[g], batch.client_offsets[g + 1]);
    };
    means.push_back(losses.units.defined() ? own(losses.loss).sum() / own(losses.units).sum()
                                           : own(losses.loss).mean());
  }
  return torch::stack(means);
}

}  // namespace

template <class T>
struct NativeTransformer<T>::Run final : GradientPass, OutputPass {
  Run(const NativeTransformer& model, const Batch& batch, AdapterSet values, Reach reach)
      : adapters(contiguous(values)),
        pass(model.kernels_, model.pool_, shape_of(batch, model.readout_), reach) {}
  AdapterSet adapters;
  Pass<T> pass;
};

template <class T>
NativeTransformer<T>::NativeTransformer(const TransformerWeights& weights, std::vector<Site> sites,
                                        Readout readout, int64_t prefix_cache_bytes, native::Storage storage,
                                        int64_t threads)
    : config_(weights.config),
      sites_(std::move(sites)),
      readout_(readout),
      lowest_layer_(lowest_layer(sites_, weights.config.layers)),
      frozen_parameters_(weights.parameters()),
      words_(weights.words),
      positions_(weights.positions),
      embedding_gain_(numbers_of<T>(weights.embedding_norm.weight)),
      embedding_shift_(numbers_of<T>(weights.embedding_norm.bias)),
      network_(weights, sites_, readout, storage),
      team_(threads),
      cache_(prefix_cache_bytes),
      features_(prefix_cache_bytes) {}

template <class T>
std::string NativeTransformer<T>::backend() const {
  const native::Bf16Kernels* bf16 = network_.block.bf16();
  return std::string("native ") + network_.kernels.name + " " + precision_name(options()) +
         (bf16 == nullptr ? "" : std::string(", products in ") + bf16->name);
}

// ---- under the lowest site --------------------------------------------------------------------------------

// Columns of each state that is kept: hidden, key, value and, where every token asks, query.
template <class T>
std::vector<int64_t> NativeTransformer<T>::state_widths() const {
  std::vector<int64_t> widths = {config_.hidden};
  if (network_.below_end.key) widths.push_back(config_.key_width());
  if (network_.below_end.value) widths.push_back(config_.key_width());
  if (network_.below_end.query) widths.push_back(config_.query_width());
  return widths;
}

template <class T>
int64_t NativeTransformer<T>::cached_bytes_per_token() const {
  const std::vector<int64_t> widths = state_widths();
  return lowest_layer_ == 0 ? 0
                            : std::accumulate(widths.begin(), widths.end(), int64_t{0}) * int64_t(sizeof(T));
}

// The sum of word, position and token type embedding, after its norm where there is one: [T, hidden].
template <class T>
Numbers<T> NativeTransformer<T>::embed(const Batch& batch) const {
  const int64_t hidden = config_.hidden, tokens = int64_t(batch.tokens.size());
  const T* words = words_.template data_ptr<T>();
  const Numbers<T> word = pool_.take(tokens * hidden);
  for (int64_t t = 0; t < tokens; ++t)
    std::copy_n(words + batch.tokens[size_t(t)] * hidden, hidden, &word[t * hidden]);
  Numbers<T> position;
  if (positions_.defined()) {
    const T* positions = positions_.template data_ptr<T>();
    const int64_t rows = positions_.size(1), types = positions_.size(0);
    position = pool_.take(tokens * hidden);
    for (size_t i = 0; i + 1 < batch.token_offsets.size(); ++i)
      for (int64_t t = batch.token_offsets[i]; t < batch.token_offsets[i + 1]; ++t) {
        const int64_t type = batch.token_types.empty() || types == 1 ? 0 : batch.token_types[size_t(t)];
        const int64_t row = type * rows + (rows == 1 ? 0 : t - batch.token_offsets[i]);
        std::copy_n(positions + row * hidden, hidden, &position[t * hidden]);
      }
  }
  if (embedding_gain_.empty()) {
    if (position != nullptr) kernels_.add(tokens * hidden, word.get(), position.get(), word.get());
    return word;
  }
  const Numbers<T> normal = pool_.take(tokens * hidden), scale = pool_.take(tokens),
                   out = pool_.take(tokens * hidden);
  kernels_.add_norm(/*centred=*/true, tokens, hidden, word.get(), position.get(), embedding_gain_.data(),
                    embedding_shift_.data(), config_.norm_epsilon, normal.get(), scale.get(), out.get());
  return out;
}

// Of each example of a batch, the states under the lowest site, [tokens, columns] of each one after the
// other.
template <class T>
std::vector<Tensor> NativeTransformer<T>::prefixes(const Batch& batch) const {
  const std::vector<ValueId> ends = network_.below_end.all();
  const std::vector<int64_t> widths = state_widths();
  Pass<T> pass(kernels_, pool_, shape_of(batch, readout_), Reach::value);
  network_.below.prepare(pass);
  pass.value[size_t(network_.below_input)] = embed(batch);
  network_.below.value(pass, ends);
  std::vector<Tensor> prefixes;
  for (size_t i = 0; i + 1 < batch.token_offsets.size(); ++i) {
    const int64_t begin = batch.token_offsets[i], tokens = batch.length(i);
    Tensor states = torch::empty({tokens * cached_bytes_per_token() / int64_t(sizeof(T))}, options());
    T* next = states.template data_ptr<T>();
    for (size_t s = 0; s < ends.size(); ++s)
      next = std::copy_n(&pass.value[size_t(ends[s])][begin * widths[s]], tokens * widths[s], next);
    prefixes.push_back(states);
  }
  return prefixes;
}

// Sets the inputs of the graph above.
template <class T>
void NativeTransformer<T>::start(const Batch& batch, Pass<T>& pass) const {
  if (lowest_layer_ == 0) {
    pass.value[size_t(network_.above_start.hidden)] = embed(batch);
    return;
  }
  const auto compute = [&](const std::vector<size_t>& places) {
    std::vector<Tensor> all;
    for (size_t begin = 0, end = 0; begin < places.size(); begin = end) {
      for (size_t tokens = 0; end < places.size() && tokens < kPrefixTokens; ++end)
        tokens += size_t(batch.length(places[end]));
      const auto some = prefixes(take_examples(batch, std::span(places).subspan(begin, end - begin)));
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  };
  const std::vector<Tensor> prefixes = cache_.get(batch.examples, compute);
  const std::vector<ValueId> inputs = network_.above_start.all();
  const std::vector<int64_t> widths = state_widths();
  for (size_t s = 0, before = 0; s < inputs.size(); before += size_t(widths[s++])) {
    Numbers<T>& input = pass.value[size_t(inputs[s])];
    input = pool_.take(pass.batch.rows(Per::token) * widths[s]);
    for (size_t i = 0; i < prefixes.size(); ++i) {
      const int64_t tokens = batch.length(i);
      std::copy_n(prefixes[i].template data_ptr<T>() + tokens * int64_t(before), tokens * widths[s],
                  &input[batch.token_offsets[i] * widths[s]]);
    }
  }
}

// ---- the questions ----------------------------------------------------------------------------------------

template <class T>
std::unique_ptr<typename NativeTransformer<T>::Run> NativeTransformer<T>::run(const Batch& batch,
                                                                              const AdapterSet& adapters,
                                                                              Reach reach) const {
  auto run = std::make_unique<Run>(*this, batch, adapters, reach);
  {
    const ProfileSpan span("transformer", "pack adapters");
    run->pass.adapters = native::pack_adapters(network_.kernels, pool_, view_of<T>(run->adapters),
                                               network_.site_shapes, network_.heads);
  }
  network_.above.prepare(run->pass);
  {
    const ProfileSpan span("transformer", "states under the adapters");
    start(batch, run->pass);
  }
  network_.above.value(run->pass, std::array{network_.scores});
  return run;
}

template <class T>
Tensor NativeTransformer<T>::scores(const Run& run) const {
  const Tensor scores = torch::empty({run.pass.batch.rows(network_.scored), network_.score_width}, options());
  std::copy_n(run.pass.value[size_t(network_.scores)].get(), scores.numel(), scores.template data_ptr<T>());
  return scores;
}

// What contiguous scores are worth.
template <class T>
OutputLoss NativeTransformer<T>::worth(const Batch& batch, const native::BatchShape& shape,
                                       const Tensor& scores) const {
  OutputLoss found{
      native_losses<T>(readout_.task, network_.kernels, scores, batch, shape), {}, torch::empty_like(scores)};
  found.loss = client_means(found.examples, batch);
  native_loss_gradient<T>(readout_.task, network_.kernels,
                          {scores.template data_ptr<T>(), size_t(scores.numel())}, batch, shape,
                          found.cotangent.template data_ptr<T>());
  return found;
}

template <class T>
AdapterSet NativeTransformer<T>::gradient_of(Run& run, const T* d_scores) const {
  const int64_t count = run.pass.batch.rows(network_.scored) * network_.score_width;
  Numbers<T>& gradient = run.pass.gradient[size_t(network_.scores)];
  gradient = pool_.take(count);
  std::copy_n(d_scores, count, gradient.get());
  AdapterSet rows = empty_like(run.adapters);
  run.pass.target = target_of<T>(rows);
  network_.above.gradient(run.pass);
  return rows;
}

template <class T>
Losses NativeTransformer<T>::loss(const Batch& batch, const AdapterSet& adapters) const {
  const auto made = run(batch, adapters, Reach::value);
  return native_losses<T>(readout_.task, network_.kernels, scores(*made), batch, made->pass.batch);
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
  const OutputLoss found = worth(batch, made->pass.batch, scores(*made));
  Gradient result{found.loss, gradient_of(*made, found.cotangent.template data_ptr<T>()), nullptr};
  if (keep == Keep::pass) result.pass = std::move(made);
  return result;
}

template <class T>
AdapterSet NativeTransformer<T>::tangent(GradientPass& kept, const AdapterSet& direction) const {
  Run& made = dynamic_cast<Run&>(kept);
  Pass<T>& pass = made.pass;
  const AdapterSet along = contiguous(direction);
  pass.direction =
      native::pack_adapters(network_.kernels, pool_, view_of<T>(along), network_.site_shapes, network_.heads);
  network_.above.tangent(pass);
  const int64_t count = pass.batch.rows(network_.scored) * network_.score_width;
  const Numbers<T> moved = pool_.take(count);
  native_loss_gradient_tangent<T>(readout_.task, network_.kernels,
                                  {pass.value[size_t(network_.scores)].get(), size_t(count)},
                                  pass.tangent[size_t(network_.scores)].get(), pass.batch, moved.get());
  pass.gradient_tangent[size_t(network_.scores)] = moved;
  AdapterSet rows = empty_like(made.adapters);
  pass.target = target_of<T>(rows);
  network_.above.gradient_tangent(pass);
  return rows;
}

template <class T>
Output NativeTransformer<T>::output(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  auto made = run(batch, adapters, keep == Keep::pass ? Reach::gradient : Reach::value);
  const Tensor values = scores(*made);
  const Tensor example = torch::tensor(scored_examples(batch), torch::kInt64);
  if (keep == Keep::nothing) return {values, example, nullptr};
  return {values, example, std::move(made)};
}

template <class T>
OutputLoss NativeTransformer<T>::output_loss(const Batch& batch, const Tensor& output) const {
  return worth(batch, shape_of(batch, readout_), output.contiguous());
}

// The example of each row of scores.
template <class T>
std::vector<int64_t> NativeTransformer<T>::scored_examples(const Batch& batch) const {
  std::vector<int64_t> example;
  for (size_t i = 0; i < batch.examples.size(); ++i) {
    const int64_t rows = readout_.by_example()               ? 1
                         : readout_.task == Task::generation ? batch.length(i) - batch.targets[i]
                                                             : batch.length(i);
    example.insert(example.end(), size_t(rows), int64_t(i));
  }
  return example;
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
    Pass<T> pass(kernels_, pool_, shape_of(some, readout_), Reach::value);
    network_.above.prepare(pass);
    start(some, pass);
    network_.above.value(pass, std::array{network_.pooled});
    const std::vector<int64_t> example = scored_examples(some);
    std::vector<Tensor> features;
    for (size_t row = 0; row < example.size(); ++row) {
      if (row > 0 && example[row] == example[row - 1]) continue;
      features.push_back(torch::empty({1, config_.hidden}, options()));
      std::copy_n(&pass.value[size_t(network_.pooled)][int64_t(row) * config_.hidden], config_.hidden,
                  features.back().template data_ptr<T>());
    }
    return features;
  };
  return torch::cat(features_.get(batch.examples, compute));
}

template class NativeTransformer<float>;
template class NativeTransformer<double>;

}  // namespace pf2lora
