#include "model/reference_transformer.h"

#include <torch/autograd.h>
#include <torch/types.h>

#include "model/layer_functions.h"
#include "model/packed_rows.h"
#include "model/rotary.h"
#include "model/task_loss.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// Adapters that autograd follows, and the tensors of theirs that it differentiates.
struct Followed {
  explicit Followed(const AdapterSet& values) {
    for (const Tensor& tensor : values.tensors()) leaves.push_back(tensor.detach().requires_grad_());
    adapters = values.with_tensors(leaves);
  }
  AdapterSet of(std::vector<Tensor> gradients) const {
    for (Tensor& gradient : gradients) gradient = gradient.detach();
    return adapters.with_tensors(gradients);
  }

  std::vector<Tensor> leaves;
  AdapterSet adapters;
};

struct AutogradGradient final : GradientPass {
  explicit AutogradGradient(const AdapterSet& values) : at(values) {}
  Followed at;
  std::vector<Tensor> gradients;  // with their graph
};

struct AutogradOutput final : OutputPass {
  explicit AutogradOutput(const AdapterSet& values) : at(values) {}
  Followed at;
  Tensor values;  // with their graph
};

// Rows of x by client, `rows` of each: views.
std::vector<Tensor> by_client(const Tensor& x, const std::vector<int64_t>& rows) {
  return rows.size() == 1 ? std::vector{x} : x.split_with_sizes(rows);
}

// base + (weights * x down^T) up^T, client by client: [T, out]. weights [T, R] may be undefined: all 1.
Tensor add_low_rank(const Tensor& base, const Tensor& x, const LowRankPair& pair,
                    const std::vector<int64_t>& rows, const Tensor& weights) {
  const auto bases = by_client(base, rows), xs = by_client(x, rows);
  const auto by_rank = weights.defined() ? by_client(weights, rows) : std::vector<Tensor>();
  const auto downs = pair.down.unbind(0);
  // A copy that lies the other way: the products of its backward are then the fast ones.
  const auto ups = pair.up.transpose(1, 2).contiguous().unbind(0);
  std::vector<Tensor> sums;
  for (size_t g = 0; g < xs.size(); ++g) {
    const Tensor low = xs[g].mm(downs[g].t());
    sums.push_back(torch::addmm(bases[g], weights.defined() ? low * by_rank[g] : low, ups[g]));
  }
  return sums.size() == 1 ? sums[0] : torch::cat(sums);
}

Tensor frozen(const Tensor& x, const FrozenLinear& linear, const Tensor& dense = {}) {
  return torch::linear(x, dense.defined() ? linear.weight + dense : linear.weight, linear.bias);
}

bool has_prefix(const AdapterSet& adapters, int64_t layer) {
  return size_t(layer) < adapters.prefix.size() && adapters.prefix[size_t(layer)].defined();
}

Tensor dense_at(const AdapterSet& adapters, int site) {
  return site < 0 || size_t(site) >= adapters.dense.size() ? Tensor() : adapters.dense[size_t(site)];
}

// Each client's own linear layer over its rows.
Tensor own_linear(const Tensor& x, const std::vector<int64_t>& rows, const Tensor& weight, const Tensor& bias) {
  const auto by_owner = by_client(x, rows);
  std::vector<Tensor> results;
  for (size_t g = 0; g < by_owner.size(); ++g)
    results.push_back(torch::linear(by_owner[g], weight[int64_t(g)], bias[int64_t(g)]));
  return torch::cat(results);
}

// An example's states have the same bits in any company only where each is computed alone: `compute` is asked
// for every place by itself.
template <class Compute>
std::vector<Tensor> one_by_one(const Batch& batch, const std::vector<size_t>& places, Compute compute) {
  std::vector<Tensor> states;
  for (const size_t& place : places) states.push_back(compute(take_examples(batch, {&place, 1})));
  return states;
}

// The example of each row that is scored: [S].
Tensor scored_examples(const Readout& readout, const PackedIndex& index) {
  if (readout.task == Task::generation) return index.target_example;
  if (readout.by_example()) return torch::arange(index.examples, index.first.options());
  return index.token_example;
}

}  // namespace

ReferenceTransformer::ReferenceTransformer(TransformerWeights weights, std::vector<Site> sites,
                                           Readout readout, int64_t prefix_cache_bytes)
    : weights_(std::move(weights)),
      sites_(std::move(sites)),
      layer_sites_(sites_by_layer(sites_, weights_.config.layers)),
      readout_(readout),
      lowest_layer_(lowest_layer(sites_, weights_.config.layers)),
      cache_(prefix_cache_bytes),
      features_(prefix_cache_bytes) {}

std::optional<HeadShape> ReferenceTransformer::head() const {
  return head_shape(readout_, weights_.config.hidden);
}

std::optional<PromptRoom> ReferenceTransformer::prompt_room() const {
  if (weights_.config.position_kind != PositionKind::learned) return std::nullopt;
  return PromptRoom{weights_.config.layers, weights_.config.hidden};
}

Asking ReferenceTransformer::asking(int64_t layer) const {
  const bool one = layer + 1 == weights_.config.layers && readout_.by_example();
  return !one || readout_.pooling == Pooling::mean ? Asking::all
         : readout_.pooling == Pooling::last       ? Asking::last
                                                   : Asking::first;
}

int64_t ReferenceTransformer::cached_bytes_per_token() const {
  if (lowest_layer_ == 0) return 0;
  const ModelConfig& config = weights_.config;
  const int64_t query = asking(lowest_layer_) == Asking::all ? config.query_width() : 0;
  return (config.hidden + 2 * config.key_width() + query) * int64_t(weights_.words.element_size());
}

PackedIndex ReferenceTransformer::index_of(const Batch& batch, const AdapterSet& adapters) const {
  return index_batch(batch, weights_.config.heads, options(),
                     adapters.prompt.defined() ? adapters.prompt.size(1) : 0, weights_.config.causal);
}

Tensor ReferenceTransformer::norm(const Tensor& x, const FrozenNorm& norm) const {
  return normalise(x, norm, weights_.config);
}

Tensor ReferenceTransformer::embed(const PackedIndex& index, const Tensor& prompt) const {
  const ModelConfig& config = weights_.config;
  Tensor sum = weights_.words.index_select(0, index.tokens);
  if (weights_.positions.defined()) {
    const int64_t rows = weights_.positions.size(1);
    Tensor row = rows == 1 ? torch::zeros_like(index.positions) : index.positions;
    if (index.types.defined() && config.token_types > 0) row = row + rows * index.types;
    sum = sum + weights_.positions.view({-1, config.hidden}).index_select(0, row);
  }
  if (prompt.defined())
    sum = take_rows(torch::cat({sum, prompt.index_select(0, index.client).flatten(0, 1)}), index.sources);
  return weights_.embedding_norm.weight.defined() ? norm(sum, weights_.embedding_norm) : sum;
}

// [tokens, ...]: the states of one example under the lowest adapted layer, side by side: hidden, then the
// frozen projections key and value, and query where every token asks.
Tensor ReferenceTransformer::example_prefix(const Batch& alone) const {
  const PackedIndex index = index_of(alone, {});
  Tensor hidden = embed(index);
  for (int64_t layer = 0; layer < lowest_layer_; ++layer)
    hidden = block(layer, {.hidden = hidden}, index, nullptr);
  const TransformerLayer& next = weights_.layers[size_t(lowest_layer_)];
  const Tensor read =
      weights_.config.norm_place == NormPlace::before ? norm(hidden, next.attention_norm) : hidden;
  std::vector<Tensor> states = {hidden, frozen(read, next.key), frozen(read, next.value)};
  if (asking(lowest_layer_) == Asking::all) states.push_back(frozen(read, next.query));
  return torch::cat(states, 1);
}

ReferenceTransformer::Entry ReferenceTransformer::entry(const Batch& batch) const {
  const torch::NoGradGuard constant;
  const auto prefixes = cache_.get(batch.examples, [&](const std::vector<size_t>& places) {
    return one_by_one(batch, places, [&](const Batch& alone) { return example_prefix(alone); });
  });
  const ModelConfig& config = weights_.config;
  std::vector<int64_t> widths = {config.hidden, config.key_width(), config.key_width()};
  if (asking(lowest_layer_) == Asking::all) widths.push_back(config.query_width());
  const auto parts = torch::cat(prefixes).split_with_sizes(widths, 1);
  // Contiguous copies: matrix products take the same path, whatever was cut out of what.
  Entry entry{.hidden = parts[0].contiguous(), .key = parts[1].contiguous(), .value = parts[2].contiguous()};
  if (parts.size() > 3) entry.query = parts[3].contiguous();
  return entry;
}

// The frozen product of a linear layer, where it is not `ready`, and what the adapters of its site add, for
// rows of each client as `rows` counts them and of the example that `example` names each; without adapters
// the frozen product alone.
struct ReferenceTransformer::Products {
  const AdapterSet* adapters;

  Tensor operator()(const Tensor& x, const FrozenLinear& linear, int site, const std::vector<int64_t>& rows,
                    const Tensor& example, const Tensor& ready = {}) const {
    const Tensor dense = adapters == nullptr ? Tensor() : dense_at(*adapters, site);
    const Tensor base = !ready.defined()  ? frozen(x, linear, dense)
                        : dense.defined() ? torch::addmm(ready, x, dense.t())
                                          : ready;
    if (adapters == nullptr || site < 0 || size_t(site) >= adapters->pairs.size() ||
        !adapters->pairs[size_t(site)].defined())
      return base;
    Tensor weights = adapters->rank_weights;
    if (weights.defined()) weights = weights.index_select(0, example);
    return add_low_rank(base, x, adapters->pairs[size_t(site)], rows, weights);
  }
};

// What each asking token, of which `top` are the states, reads of all tokens, whose states are `read`.
Tensor ReferenceTransformer::attention(int64_t layer, const Products& product, const Entry& in,
                                       const Tensor& read, const Tensor& top, const PackedIndex& index,
                                       const AdapterSet* adapters, Asking asking) const {
  const ModelConfig& config = weights_.config;
  const TransformerLayer& w = weights_.layers[size_t(layer)];
  const LayerSites& sites = layer_sites_[size_t(layer)];
  const bool all = asking == Asking::all;
  const Tensor one_each = all ? Tensor() : torch::arange(index.examples, index.first.options());
  Tensor query = product(top, w.query, sites.query, all ? index.client_tokens : index.client_examples,
                         all ? index.example : one_each, all ? in.query : Tensor());
  Tensor key = product(read, w.key, sites.key, index.client_tokens, index.example, in.key);
  Tensor value = product(read, w.value, sites.value, index.client_tokens, index.example, in.value);
  if (config.position_kind == PositionKind::rotary) {
    const Rotary rotary(config.rotary_frequencies, index.positions, options());
    const Tensor& asked = asking == Asking::first ? index.first : index.last;
    query = (all ? rotary : rotary.at(asked)).turn(query);
    key = rotary.turn(key);
  }
  key = by_query_head(key, config);
  value = by_query_head(value, config);
  AttentionPrefix prefix;
  if (adapters != nullptr && has_prefix(*adapters, layer)) {
    const KeyValuePrefix& of_client = adapters->prefix[size_t(layer)];
    prefix = {of_client.key.index_select(0, index.client), of_client.value.index_select(0, index.client)};
  }
  RelativeScores relative;
  if (config.position_kind == PositionKind::relative) {
    // Distances go through the projections as tokens do: with each client's adapters, or, where examples weigh
    // them, with each example's.
    const bool by_example = adapters != nullptr && adapters->rank_weights.defined();
    const int64_t rows = weights_.distances.size(0),
                  owners = by_example ? index.examples : int64_t(index.client_examples.size());
    const Tensor repeated = weights_.distances.repeat({owners, 1});
    const Tensor owner = torch::arange(owners, index.first.options()).repeat_interleave(rows);
    std::vector<int64_t> of_client;
    for (int64_t examples : index.client_examples) of_client.push_back(by_example ? rows * examples : rows);
    const auto project = [&](const FrozenLinear& linear, int site) {
      return product(repeated, linear, site, of_client, owner).view({owners, rows, -1});
    };
    if (config.relative.content_to_position) relative.key = project(w.key, sites.key);
    if (config.relative.position_to_content) relative.query = project(w.query, sites.query);
    relative.owner = by_example ? torch::arange(owners, index.first.options()) : index.client;
    relative.positions = &config.relative;
  }
  return packed_attention(query, key, value, index.attention, asking, prefix, relative);
}

// One transformer layer over packed tokens [T, hidden]; the last one gives only the rows that are read: of the
// token of each example that the head reads [N, hidden], or of the tokens that others are generated from
// [S, hidden]. Without adapters the layer is the frozen one.
Tensor ReferenceTransformer::block(int64_t layer, const Entry& in, const PackedIndex& index,
                                   const AdapterSet* adapters) const {
  const ModelConfig& config = weights_.config;
  const TransformerLayer& w = weights_.layers[size_t(layer)];
  const LayerSites& sites = layer_sites_[size_t(layer)];
  const Products product{adapters};
  const bool before = config.norm_place == NormPlace::before;
  const bool last = adapters != nullptr && layer + 1 == config.layers;
  const Asking asks = last ? asking(layer) : Asking::all;

  const Tensor read = before ? norm(in.hidden, w.attention_norm) : in.hidden;
  const Tensor asked = asks == Asking::first ? index.first : asks == Asking::last ? index.last : Tensor();
  Tensor top = asked.defined() ? take_rows(in.hidden, asked) : in.hidden;
  Tensor mixed = attention(layer, product, in, read, asked.defined() ? take_rows(read, asked) : read, index,
                           adapters, asks);
  std::vector<int64_t> rows = index.client_tokens;
  Tensor example = index.example;
  if (asked.defined()) {
    rows = index.client_examples;
    example = torch::arange(index.examples, index.first.options());
  } else if (last && readout_.task == Task::generation) {
    top = take_rows(top, index.target_rows);
    mixed = take_rows(mixed, index.target_rows);
    rows = index.client_targets;
    example = index.target_example;
  }

  const Tensor attended = product(mixed, w.attention_output, sites.attention_output, rows, example);
  const Tensor middle = before ? top + attended : norm(top + attended, w.attention_norm);
  const Tensor inner = before ? norm(middle, w.output_norm) : middle;
  Tensor wide = product(inner, w.intermediate, sites.intermediate, rows, example);
  wide = config.gated ? activate(config.activation, product(inner, w.gate, sites.gate, rows, example)) * wide
                      : activate(config.activation, wide);
  const Tensor out = product(wide, w.output, sites.output, rows, example);
  return before ? middle + out : norm(middle + out, w.output_norm);
}

Tensor ReferenceTransformer::pool(const Tensor& top, const PackedIndex& index) const {
  const bool prompted = index.token_rows.defined();
  if (!readout_.by_example())
    return prompted && readout_.task == Task::span ? take_rows(top, index.token_rows) : top;
  if (readout_.pooling == Pooling::pooler) return torch::tanh(frozen(top, weights_.pooler));
  if (readout_.pooling != Pooling::mean) return top;
  const Tensor tokens = prompted ? take_rows(top, index.token_rows) : top;
  const Tensor& example = index.token_example;
  const Tensor sum = tokens.new_zeros({index.examples, tokens.size(1)}).index_add(0, example, tokens);
  const Tensor count = torch::zeros_like(index.first).index_add(0, example, torch::ones_like(example));
  return sum / count.unsqueeze(1);
}

bool ReferenceTransformer::begins_at_the_tokens(const AdapterSet& adapters) const {
  for (int64_t layer = 0; layer < lowest_layer_; ++layer)
    if (has_prefix(adapters, layer)) return true;
  return lowest_layer_ == 0 || adapters.prompt.defined();
}

// What scores are made of: [S, hidden].
Tensor ReferenceTransformer::states(const Batch& batch, const PackedIndex& index,
                                    const AdapterSet& adapters) const {
  const bool whole = begins_at_the_tokens(adapters);
  Entry state = whole ? Entry{.hidden = embed(index, adapters.prompt)} : entry(batch);
  for (int64_t layer = whole ? 0 : lowest_layer_; layer < weights_.config.layers; ++layer)
    state = {.hidden = block(layer, state, index, &adapters)};
  const Tensor top =
      weights_.final_norm.weight.defined() ? norm(state.hidden, weights_.final_norm) : state.hidden;
  return pool(top, index);
}

Tensor ReferenceTransformer::scores(const Batch& batch, const PackedIndex& index,
                                    const AdapterSet& adapters) const {
  Tensor state = states(batch, index, adapters);
  if (readout_.task == Task::generation) return torch::linear(state, weights_.scores);
  const auto& rows = readout_.by_example() ? index.client_examples : index.client_own_tokens;
  if (readout_.dense)
    state = activate(weights_.config.dense_activation,
                       own_linear(state, rows, adapters.head_dense_weight, adapters.head_dense_bias));
  return own_linear(state, rows, adapters.head_weight, adapters.head_bias);
}

Losses ReferenceTransformer::loss(const Batch& batch, const AdapterSet& adapters) const {
  const torch::NoGradGuard constant;
  const PackedIndex index = index_of(batch, adapters);
  const Tensor read = scores(batch, index, adapters);
  return judge(readout_.task, read, example_losses(readout_.task, read, index), index);
}

Gradient ReferenceTransformer::gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  auto pass = std::make_unique<AutogradGradient>(adapters);
  const PackedIndex index = index_of(batch, adapters);
  const Tensor losses = example_losses(readout_.task, scores(batch, index, pass->at.adapters), index);
  const Tensor loss = client_means(losses, index);
  const bool kept = keep == Keep::pass;
  pass->gradients = torch::autograd::grad({loss.sum()}, pass->at.leaves, {}, kept, kept);

  Gradient result{loss.detach(), pass->at.of(pass->gradients), nullptr};
  if (kept) result.pass = std::move(pass);
  return result;
}

AdapterSet ReferenceTransformer::tangent(GradientPass& pass, const AdapterSet& direction) const {
  auto& kept = dynamic_cast<AutogradGradient&>(pass);
  return kept.at.of(torch::autograd::grad(kept.gradients, kept.at.leaves, direction.tensors()));
}

Output ReferenceTransformer::output(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  const PackedIndex index = index_of(batch, adapters);
  const Tensor example = scored_examples(readout_, index);
  if (keep == Keep::nothing) {
    const torch::NoGradGuard constant;
    return {scores(batch, index, adapters), example, nullptr};
  }
  auto pass = std::make_unique<AutogradOutput>(adapters);
  pass->values = scores(batch, index, pass->at.adapters);
  const Tensor values = pass->values.detach();
  return {values, example, std::move(pass)};
}

OutputLoss ReferenceTransformer::output_loss(const Batch& batch, const Tensor& output) const {
  const PackedIndex index = index_batch(batch, weights_.config.heads, options());
  const Tensor values = output.detach().requires_grad_();
  const Tensor losses = example_losses(readout_.task, values, index);
  const Tensor loss = client_means(losses, index);
  const Tensor cotangent = torch::autograd::grad({loss.sum()}, {values})[0];
  const torch::NoGradGuard constant;
  return {judge(readout_.task, output, losses.detach(), index), loss.detach(), cotangent};
}

AdapterSet ReferenceTransformer::pullback(OutputPass& pass, const Tensor& cotangent) const {
  auto& kept = dynamic_cast<AutogradOutput&>(pass);
  return kept.at.of(torch::autograd::grad({kept.values}, kept.at.leaves, {cotangent}));
}

Tensor ReferenceTransformer::features(const Batch& batch) const {
  const torch::NoGradGuard constant;
  const auto features = features_.get(batch.examples, [&](const std::vector<size_t>& places) {
    return one_by_one(batch, places, [&](const Batch& alone) {
      const Tensor all = states(alone, index_of(alone, {}), {});
      return readout_.by_example() ? all : all.narrow(0, 0, 1);
    });
  });
  return torch::cat(features);
}

}  // namespace pf2lora
