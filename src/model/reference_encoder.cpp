#include "model/reference_encoder.h"

#include <torch/torch.h>

#include "model/layer_norm.h"
#include "model/packed_rows.h"

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

Tensor normalise(const Tensor& x, const FrozenNorm& norm, double epsilon) {
  return layer_norm(x, norm.weight, norm.bias, epsilon);
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

Losses losses_of(const Tensor& scores, const Tensor& labels) {
  return {torch::cross_entropy_loss(scores, labels, {}, at::Reduction::None), scores.argmax(1)};
}

// An example's states have the same bits in any company only where each is computed alone: `compute` is asked
// for every place by itself.
template <class Compute>
std::vector<Tensor> one_by_one(const Batch& batch, const std::vector<size_t>& places, Compute compute) {
  std::vector<Tensor> states;
  for (const size_t& place : places) states.push_back(compute(take_examples(batch, {&place, 1})));
  return states;
}

// Means over each client's examples: [G]. Not a matrix product: 0 * NaN would carry one client's failure to
// the others of its group.
Tensor client_means(const Tensor& losses, const PackedIndex& index) {
  return (index.share * losses).masked_fill(index.share == 0, 0).sum(1);
}

}  // namespace

ReferenceEncoder::ReferenceEncoder(EncoderWeights weights, std::vector<Site> sites, Pooling pooling,
                                   int64_t classes, int64_t prefix_cache_bytes)
    : weights_(std::move(weights)),
      sites_(std::move(sites)),
      layer_sites_(sites_by_layer(sites_, weights_.config.layers)),
      pooling_(pooling),
      classes_(classes),
      lowest_layer_(lowest_layer(sites_, weights_.config.layers)),
      cache_(prefix_cache_bytes),
      features_(prefix_cache_bytes) {}

bool ReferenceEncoder::reads_first_token_only(int64_t layer) const {
  return layer + 1 == weights_.config.layers && pooling_ != Pooling::mean;
}

int64_t ReferenceEncoder::cached_bytes_per_token() const {
  const int64_t states = lowest_layer_ == 0 ? 0 : reads_first_token_only(lowest_layer_) ? 3 : 4;
  return states * weights_.config.hidden * int64_t(weights_.words.element_size());
}

PackedIndex ReferenceEncoder::index_of(const Batch& batch, const AdapterSet& adapters) const {
  return index_batch(batch, weights_.config.heads, options(),
                     adapters.prompt.defined() ? adapters.prompt.size(1) : 0);
}

Tensor ReferenceEncoder::embed(const PackedIndex& index, const Tensor& prompt) const {
  Tensor sum =
      weights_.words.index_select(0, index.tokens) + weights_.positions.index_select(0, index.positions);
  if (prompt.defined())
    sum = take_rows(torch::cat({sum, prompt.index_select(0, index.client).flatten(0, 1)}), index.sources);
  return normalise(sum, weights_.embedding_norm, weights_.config.norm_epsilon);
}

// [tokens, (3 or 4) * hidden]: the states of one example under the lowest adapted layer, side by side:
// hidden, then the frozen projections key and value, and query where every token asks.
Tensor ReferenceEncoder::example_prefix(const Batch& alone) const {
  const PackedIndex index = index_batch(alone, weights_.config.heads, options());
  Tensor hidden = embed(index);
  for (int64_t layer = 0; layer < lowest_layer_; ++layer)
    hidden = block(layer, {.hidden = hidden}, index, nullptr);
  const EncoderLayer& next = weights_.layers[size_t(lowest_layer_)];
  std::vector<Tensor> states = {hidden, frozen(hidden, next.key), frozen(hidden, next.value)};
  if (!reads_first_token_only(lowest_layer_)) states.push_back(frozen(hidden, next.query));
  return torch::cat(states, 1);
}

ReferenceEncoder::Entry ReferenceEncoder::entry(const Batch& batch) const {
  const torch::NoGradGuard constant;
  const auto prefixes = cache_.get(batch.examples, [&](const std::vector<size_t>& places) {
    return one_by_one(batch, places, [&](const Batch& alone) { return example_prefix(alone); });
  });
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

  // The frozen product, where it is not `ready`, and what the adapters of the site add.
  const auto product = [&](const Tensor& x, const FrozenLinear& linear, int site, bool by_example,
                           const Tensor& ready = {}) {
    const Tensor dense = adapters == nullptr ? Tensor() : dense_at(*adapters, site);
    Tensor base = !ready.defined()  ? frozen(x, linear, dense)
                  : dense.defined() ? torch::addmm(ready, x, dense.t())
                                    : ready;
    if (adapters == nullptr || site < 0 || size_t(site) >= adapters->pairs.size() ||
        !adapters->pairs[size_t(site)].defined())
      return base;
    Tensor weights = adapters->rank_weights;
    if (weights.defined() && !by_example) weights = weights.index_select(0, index.example);
    return add_low_rank(base, x, adapters->pairs[size_t(site)],
                        by_example ? index.client_examples : index.client_tokens, weights);
  };
  KeyValuePrefix prefix;
  if (adapters != nullptr && has_prefix(*adapters, layer)) {
    const KeyValuePrefix& of_client = adapters->prefix[size_t(layer)];
    prefix = {of_client.key.index_select(0, index.client), of_client.value.index_select(0, index.client)};
  }

  const Tensor top = first_only ? take_rows(in.hidden, index.first) : in.hidden;
  const Tensor query = product(top, w.query, sites.query, first_only, first_only ? Tensor() : in.query);
  const Tensor key = product(in.hidden, w.key, sites.key, false, in.key);
  const Tensor value = product(in.hidden, w.value, sites.value, false, in.value);
  const Tensor mixed =
      packed_attention(query, key, value, index.attention, first_only, prefix.key, prefix.value);
  const Tensor attended = product(mixed, w.attention_output, sites.attention_output, first_only);
  const Tensor middle = normalise(top + attended, w.attention_norm, epsilon);
  const Tensor wide = activate(product(middle, w.intermediate, sites.intermediate, first_only));
  const Tensor out = product(wide, w.output, sites.output, first_only);
  return normalise(middle + out, w.output_norm, epsilon);
}

Tensor ReferenceEncoder::pool(const Tensor& top, const PackedIndex& index) const {
  if (pooling_ == Pooling::cls) return top;
  if (pooling_ == Pooling::pooler) return torch::tanh(frozen(top, weights_.pooler));
  const bool prompted = index.token_rows.defined();
  const Tensor tokens = prompted ? take_rows(top, index.token_rows) : top;
  const Tensor example = prompted ? index.example.index_select(0, index.token_rows) : index.example;
  const Tensor sum = tokens.new_zeros({index.examples, tokens.size(1)}).index_add(0, example, tokens);
  const Tensor count = torch::zeros_like(index.first).index_add(0, example, torch::ones_like(example));
  return sum / count.unsqueeze(1);
}

bool ReferenceEncoder::begins_at_the_tokens(const AdapterSet& adapters) const {
  for (int64_t layer = 0; layer < lowest_layer_; ++layer)
    if (has_prefix(adapters, layer)) return true;
  return lowest_layer_ == 0 || adapters.prompt.defined();
}

// What the head reads: [N, hidden].
Tensor ReferenceEncoder::pooled(const Batch& batch, const PackedIndex& index,
                                const AdapterSet& adapters) const {
  const bool whole = begins_at_the_tokens(adapters);
  Entry state = whole ? Entry{.hidden = embed(index, adapters.prompt)} : entry(batch);
  for (int64_t layer = whole ? 0 : lowest_layer_; layer < weights_.config.layers; ++layer)
    state = {.hidden = block(layer, state, index, &adapters)};
  return pool(state.hidden, index);
}

Tensor ReferenceEncoder::logits(const Batch& batch, const PackedIndex& index,
                                const AdapterSet& adapters) const {
  const auto by_owner = by_client(pooled(batch, index, adapters), index.client_examples);
  std::vector<Tensor> scores;
  for (size_t g = 0; g < by_owner.size(); ++g)
    scores.push_back(
        torch::linear(by_owner[g], adapters.head_weight[int64_t(g)], adapters.head_bias[int64_t(g)]));
  return torch::cat(scores);
}

Losses ReferenceEncoder::loss(const Batch& batch, const AdapterSet& adapters) const {
  const torch::NoGradGuard constant;
  const PackedIndex index = index_of(batch, adapters);
  return losses_of(logits(batch, index, adapters), index.labels);
}

Gradient ReferenceEncoder::gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  auto pass = std::make_unique<AutogradGradient>(adapters);
  const PackedIndex index = index_of(batch, adapters);
  const Tensor scores = logits(batch, index, pass->at.adapters);
  const Tensor losses = torch::cross_entropy_loss(scores, index.labels, {}, at::Reduction::None);
  const Tensor loss = client_means(losses, index);
  const bool kept = keep == Keep::pass;
  pass->gradients = torch::autograd::grad({loss.sum()}, pass->at.leaves, {}, kept, kept);

  Gradient result{loss.detach(), pass->at.of(pass->gradients), nullptr};
  if (kept) result.pass = std::move(pass);
  return result;
}

AdapterSet ReferenceEncoder::tangent(GradientPass& pass, const AdapterSet& direction) const {
  auto& kept = dynamic_cast<AutogradGradient&>(pass);
  return kept.at.of(torch::autograd::grad(kept.gradients, kept.at.leaves, direction.tensors()));
}

Output ReferenceEncoder::output(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  if (keep == Keep::nothing) {
    const torch::NoGradGuard constant;
    return {logits(batch, index_of(batch, adapters), adapters), nullptr};
  }
  auto pass = std::make_unique<AutogradOutput>(adapters);
  pass->values = logits(batch, index_of(batch, adapters), pass->at.adapters);
  const Tensor values = pass->values.detach();
  return {values, std::move(pass)};
}

OutputLoss ReferenceEncoder::output_loss(const Batch& batch, const Tensor& output) const {
  const torch::NoGradGuard constant;
  const PackedIndex index = index_batch(batch, weights_.config.heads, options());
  const Losses examples = losses_of(output, index.labels);
  const Tensor target = torch::one_hot(index.labels, classes_).to(output.options());
  const Tensor share = index.share.sum(0).unsqueeze(1);  // [N, 1]
  return {examples, client_means(examples.loss, index), share * (torch::softmax(output, 1) - target)};
}

AdapterSet ReferenceEncoder::pullback(OutputPass& pass, const Tensor& cotangent) const {
  auto& kept = dynamic_cast<AutogradOutput&>(pass);
  return kept.at.of(torch::autograd::grad({kept.values}, kept.at.leaves, {cotangent}));
}

Tensor ReferenceEncoder::features(const Batch& batch) const {
  const torch::NoGradGuard constant;
  const auto features = features_.get(batch.examples, [&](const std::vector<size_t>& places) {
    return one_by_one(batch, places,
                      [&](const Batch& alone) { return pooled(alone, index_of(alone, {}), {}); });
  });
  return torch::cat(features);
}

}  // namespace pf2lora
