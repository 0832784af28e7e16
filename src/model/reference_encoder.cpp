#include "model/reference_encoder.h"

#include <torch/torch.h>

#include <cmath>

namespace pf2lora {
namespace {

using torch::Tensor;

struct AutogradPass final : GradientPass {
  AdapterSet adapters;            // the structure, for the tangent's result
  std::vector<Tensor> leaves;     // what was differentiated
  std::vector<Tensor> gradients;  // with their graph
};

// x [T, in] through each client's own matrix, x_g m_g^T; `rows` says how many rows belong to each client.
Tensor by_client(const Tensor& x, const Tensor& matrices, const std::vector<int64_t>& rows) {
  if (rows.size() == 1) return x.mm(matrices[0].t());
  const auto xs = x.split_with_sizes(rows);
  const auto ms = matrices.unbind(0);
  std::vector<Tensor> products;
  for (size_t g = 0; g < xs.size(); ++g) products.push_back(xs[g].mm(ms[g].t()));
  return torch::cat(products);
}

// base + (x down^T) up^T, client by client: [T, out].
Tensor add_low_rank(const Tensor& base, const Tensor& x, const LowRankPair& pair,
                    const std::vector<int64_t>& rows) {
  if (rows.size() == 1) return torch::addmm(base, x.mm(pair.down[0].t()), pair.up[0].t());
  return base + by_client(by_client(x, pair.down, rows), pair.up, rows);
}

Tensor normalise(const Tensor& x, const FrozenNorm& norm, double epsilon) {
  return torch::layer_norm(x, {x.size(-1)}, norm.weight, norm.bias, epsilon);
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
  const PackedIndex index = index_batch(alone, options());
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

Tensor ReferenceEncoder::attend(const Tensor& query, const Tensor& key, const Tensor& value,
                                const PackedIndex& index, bool first_only) const {
  const int64_t hidden = weights_.config.hidden, heads = weights_.config.heads;
  const auto by_head = [&](const Tensor& x, int64_t tokens) {  // [N, heads, tokens, hidden / heads]
    return x.view({index.examples, tokens, heads, hidden / heads}).transpose(1, 2);
  };
  const auto pad = [&](const Tensor& x) {
    return by_head(x.new_zeros({index.examples * index.longest, hidden}).index_copy(0, index.padded, x),
                   index.longest);
  };
  const Tensor scaled = query * (1 / std::sqrt(double(hidden / heads)));
  const Tensor q = first_only ? by_head(scaled, 1) : pad(scaled);
  const Tensor weights = torch::softmax(torch::matmul(q, pad(key).transpose(-1, -2)) + index.mask, -1);
  const Tensor mixed = torch::matmul(weights, pad(value)).transpose(1, 2).reshape({-1, hidden});
  return first_only ? mixed : mixed.index_select(0, index.padded);
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

  const Tensor top = first_only ? in.hidden.index_select(0, index.first) : in.hidden;
  const Tensor query = first_only ? adapted(frozen(top, w.query), top, sites.query, rows)
                                  : project(in.query, w.query, sites.query);
  const Tensor mixed = attend(query, project(in.key, w.key, sites.key),
                              project(in.value, w.value, sites.value), index, first_only);
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
  const Tensor bias = adapters.head_bias.repeat_interleave(
      torch::tensor(index.client_examples, torch::dtype(torch::kInt64).device(pooled.device())), 0);
  return bias + by_client(pooled, adapters.head_weight, index.client_examples);
}

Tensor ReferenceEncoder::logits(const Batch& batch, const AdapterSet& adapters) const {
  const torch::NoGradGuard constant;
  return logits(batch, index_batch(batch, options()), adapters);
}

Losses ReferenceEncoder::loss(const Batch& batch, const AdapterSet& adapters) const {
  const torch::NoGradGuard constant;
  const PackedIndex index = index_batch(batch, options());
  const Tensor scores = logits(batch, index, adapters);
  return {torch::cross_entropy_loss(scores, index.labels, {}, at::Reduction::None), scores.argmax(1)};
}

Gradient ReferenceEncoder::gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  auto pass = std::make_unique<AutogradPass>();
  for (const Tensor& tensor : adapters.tensors()) pass->leaves.push_back(tensor.detach().requires_grad_());
  pass->adapters = adapters.with_tensors(pass->leaves);

  const PackedIndex index = index_batch(batch, options());
  const Tensor scores = logits(batch, index, pass->adapters);
  const Tensor loss =
      index.share.mv(torch::cross_entropy_loss(scores, index.labels, {}, at::Reduction::None));
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
