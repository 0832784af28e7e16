#include "model/reference_encoder.h"

#include <torch/torch.h>

#include "model/layer_norm.h"
#include "model/packed_rows.h"

namespace pf2lora {
namespace {

using torch::Tensor;

struct AutogradPass final : GradientPass {
  AdapterSet adapters;            // the structure, for the tangent's result
  std::vector<Tensor> leaves;     // what was differentiated
  std::vector<Tensor> gradients;  // with their graph
};

// Rows of x by client, `rows` of each: views.
std::vector<Tensor> by_client(const Tensor& x, const std::vector<int64_t>& rows) {
  return rows.size() == 1 ? std::vector{x} : x.split_with_sizes(rows);
}

// base + (x down^T) up^T, client by client: [T, out].
Tensor add_low_rank(const Tensor& base, const Tensor& x, const LowRankPair& pair,
                    const std::vector<int64_t>& rows) {
  const auto bases = by_client(base, rows), xs = by_client(x, rows);
  const auto downs = pair.down.unbind(0);
  // A copy that lies the other way: the products of its backward are then the fast ones.
  const auto ups = pair.up.transpose(1, 2).contiguous().unbind(0);
  std::vector<Tensor> sums;
  for (size_t g = 0; g < xs.size(); ++g)
    sums.push_back(torch::addmm(bases[g], xs[g].mm(downs[g].t()), ups[g]));
  return sums.size() == 1 ? sums[0] : torch::cat(sums);
}

Tensor normalise(const Tensor& x, const FrozenNorm& norm, double epsilon) {
  return layer_norm(x, norm.weight, norm.bias, epsilon);
}

Tensor frozen(const Tensor& x, const FrozenLinear& linear) {
  return torch::linear(x, linear.weight, linear.bias);
}

}  // namespace

ReferenceEncoder::ReferenceEncoder(EncoderWeights weights, std::vector<Site> sites, Pooling pooling,
                                   int64_t classes, int64_t prefix_cache_bytes)
    : weights_(std::move(weights)),
      sites_(std::move(sites)),
      layer_sites_(size_t(weights_.config.layers)),
      pooling_(pooling),
      classes_(classes),
      lowest_layer_(weights_.config.layers - 1),
      cache_(prefix_cache_bytes) {
  for (size_t i = 0; i < sites_.size(); ++i) {
    LayerSites& layer = layer_sites_[size_t(sites_[i].layer)];
    const std::string& target = sites_[i].target;
    (target == "query"              ? layer.query
     : target == "key"              ? layer.key
     : target == "value"            ? layer.value
     : target == "attention-output" ? layer.attention_output
     : target == "intermediate"     ? layer.intermediate
                                    : layer.output) = int(i);
    lowest_layer_ = std::min(lowest_layer_, sites_[i].layer);
  }
}

bool ReferenceEncoder::reads_first_token_only(int64_t layer) const {
  return layer + 1 == weights_.config.layers && pooling_ != Pooling::mean;
}

int64_t ReferenceEncoder::prefix_bytes_per_token() const {
  const int64_t states = lowest_layer_ == 0 ? 0 : reads_first_token_only(lowest_layer_) ? 3 : 4;
  return states * weights_.config.hidden * int64_t(weights_.words.element_size());
}

Tensor ReferenceEncoder::embed(const PackedIndex& index) const {
  return normalise(
      weights_.words.index_select(0, index.tokens) + weights_.positions.index_select(0, index.positions),
      weights_.embedding_norm, weights_.config.norm_epsilon);
}

// [tokens, (3 or 4) * hidden]: the states of one example under the lowest adapted layer, side by side:
// hidden, then the frozen projections key and value, and query where every token asks.
Tensor ReferenceEncoder::example_prefix(const Batch& batch, int64_t example) const {
  const int64_t begin = batch.token_offsets[size_t(example)], end = batch.token_offsets[size_t(example) + 1];
  const Batch alone{.clients = {0},
                    .examples = {batch.examples[size_t(example)]},
                    .client_offsets = {0, 1},
                    .token_offsets = {0, end - begin},
                    .tokens = {batch.tokens.begin() + begin, batch.tokens.begin() + end},
                    .labels = {batch.labels[size_t(example)]}};
  const PackedIndex index = index_batch(alone, weights_.config.heads, options());
  Tensor hidden = embed(index);
  for (int64_t layer = 0; layer < lowest_layer_; ++layer)
    hidden = block(layer, {.hidden = hidden}, index, nullptr);
  const EncoderLayer& next = weights_.layers[size_t(lowest_layer_)];
  std::vector<Tensor> states = {hidden, frozen(hidden, next.key), frozen(hidden, next.value)};
  if (!reads_first_token_only(lowest_layer_)) states.push_back(frozen(hidden, next.query));
  return torch::cat(states, 1);
}

ReferenceEncoder::Entry ReferenceEncoder::entry(const Batch& batch, const PackedIndex& index) const {
  const torch::NoGradGuard constant;
  if (lowest_layer_ == 0) return {.hidden = embed(index)};
  std::vector<Tensor> prefixes;
  for (int64_t i = 0; i < index.examples; ++i)
    prefixes.push_back(cache_.get(batch.examples[size_t(i)], [&] { return example_prefix(batch, i); }));
  const auto parts = torch::cat(prefixes).split(weights_.config.hidden, 1);
  // Contiguous copies: matrix products take the same path, whatever was cut out of what.
  Entry entry{.hidden = parts[0].contiguous(), .key = parts[1].contiguous(), .value = parts[2].contiguous()};
  if (parts.size() > 3) entry.query = parts[3].contiguous();
  return entry;
}

Tensor ReferenceEncoder::activate(const Tensor& x) const {
  const std::string& name = weights_.config.activation;
  if (name == "relu") return torch::relu(x);
  return torch::gelu(x, name == "gelu" ? "none" : "tanh");
}

// One transformer layer over packed tokens [T, hidden]; where only the first token of each example is read
// above, the result is [N, hidden]. Without adapters the layer is the frozen one.
Tensor ReferenceEncoder::block(int64_t layer, const Entry& in, const PackedIndex& index,
                               const AdapterSet* adapters) const {
  const EncoderLayer& w = weights_.layers[size_t(layer)];
  const LayerSites& sites = layer_sites_[size_t(layer)];
  const double epsilon = weights_.config.norm_epsilon;
  const bool first_only = adapters != nullptr && reads_first_token_only(layer);
  const std::vector<int64_t>& rows = first_only ? index.client_examples : index.client_tokens;

  const auto adapted = [&](Tensor base, const Tensor& x, int site, const std::vector<int64_t>& x_rows) {
    if (adapters == nullptr || site < 0 || !adapters->pairs[size_t(site)].defined()) return base;
    return add_low_rank(base, x, adapters->pairs[size_t(site)], x_rows);
  };
  const auto project = [&](const Tensor& ready, const FrozenLinear& linear, int site) {
    return adapted(ready.defined() ? ready : frozen(in.hidden, linear), in.hidden, site, index.client_tokens);
  };

  const Tensor top = first_only ? take_rows(in.hidden, index.first) : in.hidden;
  const Tensor query = first_only ? adapted(frozen(top, w.query), top, sites.query, rows)
                                  : project(in.query, w.query, sites.query);
  const Tensor mixed = packed_attention(query, project(in.key, w.key, sites.key),
                                        project(in.value, w.value, sites.value), index.attention, first_only);
  const Tensor attended = adapted(frozen(mixed, w.attention_output), mixed, sites.attention_output, rows);
  const Tensor middle = normalise(top + attended, w.attention_norm, epsilon);
  const Tensor wide = activate(adapted(frozen(middle, w.intermediate), middle, sites.intermediate, rows));
  const Tensor out = adapted(frozen(wide, w.output), wide, sites.output, rows);
  return normalise(middle + out, w.output_norm, epsilon);
}

Tensor ReferenceEncoder::logits(const Batch& batch, const PackedIndex& index,
                                const AdapterSet& adapters) const {
  Entry state = entry(batch, index);
  for (int64_t layer = lowest_layer_; layer < weights_.config.layers; ++layer)
    state = {.hidden = block(layer, state, index, &adapters)};

  Tensor pooled = state.hidden;  // [N, hidden] but for mean pooling
  if (pooling_ == Pooling::mean) {
    const Tensor sum = pooled.new_zeros({index.examples, pooled.size(1)}).index_add(0, index.example, pooled);
    const Tensor tokens =
        torch::zeros_like(index.first).index_add(0, index.example, torch::ones_like(index.example));
    pooled = sum / tokens.unsqueeze(1);
  } else if (pooling_ == Pooling::pooler) {
    pooled = torch::tanh(frozen(pooled, weights_.pooler));
  }
  const auto by_owner = by_client(pooled, index.client_examples);
  std::vector<Tensor> scores;
  for (size_t g = 0; g < by_owner.size(); ++g)
    scores.push_back(
        torch::linear(by_owner[g], adapters.head_weight[int64_t(g)], adapters.head_bias[int64_t(g)]));
  return torch::cat(scores);
}

Tensor ReferenceEncoder::logits(const Batch& batch, const AdapterSet& adapters) const {
  const torch::NoGradGuard constant;
  return logits(batch, index_batch(batch, weights_.config.heads, options()), adapters);
}

Losses ReferenceEncoder::loss(const Batch& batch, const AdapterSet& adapters) const {
  const torch::NoGradGuard constant;
  const PackedIndex index = index_batch(batch, weights_.config.heads, options());
  const Tensor scores = logits(batch, index, adapters);
  return {torch::cross_entropy_loss(scores, index.labels, {}, at::Reduction::None), scores.argmax(1)};
}

Gradient ReferenceEncoder::gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  auto pass = std::make_unique<AutogradPass>();
  for (const Tensor& tensor : adapters.tensors()) pass->leaves.push_back(tensor.detach().requires_grad_());
  pass->adapters = adapters.with_tensors(pass->leaves);

  const PackedIndex index = index_batch(batch, weights_.config.heads, options());
  const Tensor scores = logits(batch, index, pass->adapters);
  const Tensor losses = torch::cross_entropy_loss(scores, index.labels, {}, at::Reduction::None);
  // Not a matrix product: 0 * NaN would carry one client's failure to the others of its group.
  const Tensor loss = (index.share * losses).masked_fill(index.share == 0, 0).sum(1);  // [G]
  const bool kept = keep == Keep::pass;
  pass->gradients = torch::autograd::grad({loss.sum()}, pass->leaves, {}, kept, kept);

  std::vector<Tensor> values;
  for (const Tensor& gradient : pass->gradients) values.push_back(gradient.detach());
  Gradient result{loss.detach(), adapters.with_tensors(values), nullptr};
  if (kept) result.pass = std::move(pass);
  return result;
}

AdapterSet ReferenceEncoder::tangent(GradientPass& pass, const AdapterSet& direction) const {
  auto& kept = dynamic_cast<AutogradPass&>(pass);
  return kept.adapters.with_tensors(torch::autograd::grad(kept.gradients, kept.leaves, direction.tensors()));
}

}  // namespace pf2lora
