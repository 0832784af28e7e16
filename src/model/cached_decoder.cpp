#include "model/cached_decoder.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "model/layer_functions.h"

namespace pf2lora {
namespace {

using torch::Tensor;

bool is_order(const std::vector<int64_t>& rows, int64_t count) {
  if (int64_t(rows.size()) != count) return false;
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i] != int64_t(i)) return false;
  return true;
}

// Of keys or values [.., key heads, .., width] the rows [S] and first `used` slots, with room for `slots`.
Tensor moved(const Tensor& cached, const Tensor& rows, int64_t used, int64_t slots) {
  const Tensor result = cached.new_empty({rows.size(0), cached.size(1), slots, cached.size(3)});
  Tensor beginning = result.narrow(2, 0, used);
  at::index_select_out(beginning, cached.narrow(2, 0, used), 0, rows);
  return result;
}

}  // namespace

CachedDecoder::CachedDecoder(const TransformerWeights& weights, std::vector<LayerSites> sites,
                             const Batch& prompts, const AdapterSet& adapters)
    : weights_(weights),
      config_(weights.config),
      sites_(std::move(sites)),
      prompts_(prompts),
      adapters_(adapters),
      layers_(weights.layers),
      caches_(weights.layers.size()) {
  const auto add = [&](FrozenLinear& linear, int site) {
    if (site >= 0 && size_t(site) < adapters.dense.size() && adapters.dense[size_t(site)].defined())
      linear.weight = linear.weight + adapters.dense[size_t(site)];
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    add(layers_[i].query, sites_[i].query);
    add(layers_[i].key, sites_[i].key);
    add(layers_[i].value, sites_[i].value);
    add(layers_[i].attention_output, sites_[i].attention_output);
    add(layers_[i].gate, sites_[i].gate);
    add(layers_[i].intermediate, sites_[i].intermediate);
    add(layers_[i].output, sites_[i].output);
  }
}

Tensor CachedDecoder::embed(const Tensor& tokens, const Tensor& positions) const {
  const Tensor words = weights_.words.index_select(0, tokens);
  return weights_.positions.defined() ? words + weights_.positions[0].index_select(0, positions) : words;
}

// x W^T + bias + (rank weights * x down^T) up^T, with each client's pair.
Tensor CachedDecoder::linear(const Tensor& x, const FrozenLinear& linear, int site, const Rows& rows) const {
  const Tensor sum = torch::linear(x, linear.weight, linear.bias);
  if (site < 0 || size_t(site) >= adapters_.pairs.size()) return sum;
  const LowRankPair& pair = adapters_.pairs[size_t(site)];
  if (!pair.defined()) return sum;
  const Tensor weights = adapters_.rank_weights.defined()
                             ? adapters_.rank_weights.index_select(0, rows.example)
                             : Tensor();
  int64_t first = 0;
  for (size_t g = 0; g < rows.of_client.size(); ++g) {
    const int64_t count = rows.of_client[g];
    if (count == 0) continue;
    Tensor low = x.narrow(0, first, count).mm(pair.down[int64_t(g)].t());
    if (weights.defined()) low = low * weights.narrow(0, first, count);
    sum.narrow(0, first, count).addmm_(low, pair.up[int64_t(g)].t());
    first += count;
  }
  return sum;
}

Tensor CachedDecoder::finish(size_t layer, const Tensor& top, const Tensor& mixed, const Rows& rows) const {
  const TransformerLayer& w = layers_[layer];
  const LayerSites& sites = sites_[layer];
  const Tensor middle = top + linear(mixed, w.attention_output, sites.attention_output, rows);
  const Tensor inner = normalise(middle, w.output_norm, config_);
  const Tensor wide = linear(inner, w.intermediate, sites.intermediate, rows);
  const Tensor active =
      config_.gated ? activate(config_.activation, linear(inner, w.gate, sites.gate, rows)) * wide
                    : activate(config_.activation, wide);
  return middle + linear(active, w.output, sites.output, rows);
}

Tensor CachedDecoder::scores(const Tensor& top) const {
  return torch::linear(normalise(top, weights_.final_norm, config_), weights_.scores);
}

Tensor CachedDecoder::padded(const Tensor& x, const Tensor& prefix, const PackedIndex& index) const {
  // The place of a row is that of its example and that within it.
  const int64_t rows = x.size(0);
  const Tensor start = index.first.index_select(0, index.example);
  const Tensor place = index.example * longest_ + torch::arange(rows, start.options()) - start;
  const Tensor all = x.new_zeros({index.examples * longest_, x.size(1)})
                         .index_copy_(0, place, x)
                         .view({index.examples, longest_, x.size(1)});
  const Tensor whole = prefix.defined() ? torch::cat({prefix.index_select(0, index.client), all}, 1) : all;
  return whole.view({index.examples, whole.size(1), config_.key_heads, config_.head_width})
      .transpose(1, 2)
      .contiguous();
}

Tensor CachedDecoder::begin() {
  const int64_t vectors = adapters_.prompt.defined() ? adapters_.prompt.size(1) : 0;
  const PackedIndex index = index_batch(prompts_, config_.heads, weights_.words.options(), vectors,
                                        /*causal=*/true);
  std::vector<int64_t> lengths;
  for (size_t i = 0; i < prompts_.examples.size(); ++i) lengths.push_back(prompts_.length(i) + vectors);
  longest_ = *std::max_element(lengths.begin(), lengths.end());
  const Tensor length = torch::tensor(lengths, torch::kInt64).to(index.first.device());
  padding_ = torch::zeros({index.examples, longest_}, weights_.words.options())
                 .masked_fill(torch::arange(longest_, length.options()) >= length.unsqueeze(1),
                              -std::numeric_limits<double>::infinity())
                 .view({index.examples, 1, 1, longest_});
  examples_.resize(size_t(index.examples));
  std::iota(examples_.begin(), examples_.end(), 0);
  of_sequence_ = examples_;

  const Rows all{index.client_tokens, index.example},
      one_each{index.client_examples, torch::arange(index.examples, index.first.options())};
  Tensor hidden = embed(index.tokens, index.positions);
  if (vectors > 0) {
    const Tensor prompt = adapters_.prompt.index_select(0, index.client).flatten(0, 1);
    hidden = torch::cat({hidden, prompt}).index_select(0, index.sources);
  }
  for (size_t layer = 0; layer < layers_.size(); ++layer)
    hidden = prompt_layer(layer, hidden, index, all, one_each);
  return scores(hidden);
}

// One layer over all tokens of all prompts [T, hidden]; the last one gives only each prompt's last row [N,
// hidden].
Tensor CachedDecoder::prompt_layer(size_t layer, const Tensor& hidden, const PackedIndex& index,
                                   const Rows& all, const Rows& one_each) {
  const TransformerLayer& w = layers_[layer];
  const LayerSites& sites = sites_[layer];
  const bool last = layer + 1 == layers_.size();
  const auto asking = [&](const Tensor& x) { return last ? x.index_select(0, index.last) : x; };
  const Rows& rows = last ? one_each : all;
  const Tensor read = normalise(hidden, w.attention_norm, config_);
  Tensor query = linear(asking(read), w.query, sites.query, rows);
  Tensor key = linear(read, w.key, sites.key, all);
  const Tensor value = linear(read, w.value, sites.value, all);
  if (config_.position_kind == PositionKind::rotary) {
    const Rotary rotary(config_.rotary_frequencies, index.positions, hidden.options());
    query = (last ? rotary.at(index.last) : rotary).turn(query);
    key = rotary.turn(key);
  }
  KeyValuePrefix before;
  AttentionPrefix of_example;
  if (layer < adapters_.prefix.size() && adapters_.prefix[layer].defined()) {
    before = adapters_.prefix[layer];
    of_example = {before.key.index_select(0, index.client), before.value.index_select(0, index.client)};
  }
  const Tensor none = key.new_empty({index.examples, config_.key_heads, 0, config_.head_width});
  caches_[layer] = {padded(key, before.key, index), padded(value, before.value, index), none, none};
  const Tensor mixed =
      packed_attention(query, by_query_head(key, config_), by_query_head(value, config_), index.attention,
                       last ? Asking::last : Asking::all, of_example);
  return finish(layer, asking(hidden), mixed, rows);
}

// Keeps the caches of the sequences that go on, in their new order.
void CachedDecoder::go_on_with(const std::vector<int64_t>& parents) {
  std::vector<int64_t> of_sequence, examples, places;
  for (int64_t parent : parents) of_sequence.push_back(of_sequence_[size_t(parent)]);
  std::unique_copy(of_sequence.begin(), of_sequence.end(), std::back_inserter(examples));
  const auto rows = [&](const std::vector<int64_t>& values) {
    return torch::tensor(values, torch::kInt64).to(padding_.device());
  };
  if (examples != examples_) {
    for (int64_t example : examples)
      places.push_back(std::lower_bound(examples_.begin(), examples_.end(), example) - examples_.begin());
    const Tensor some = rows(places);
    padding_ = padding_.index_select(0, some);
    for (Cache& cache : caches_) {
      cache.prompt_key = cache.prompt_key.index_select(0, some);
      cache.prompt_value = cache.prompt_value.index_select(0, some);
    }
  }
  // Slots are taken ahead, so that a new token seldom moves the others.
  const bool full = new_tokens_ == slots_;
  if (full) slots_ = std::max<int64_t>(16, 2 * slots_);
  if (full || !is_order(parents, int64_t(of_sequence_.size()))) {
    const Tensor some = rows(parents);
    for (Cache& cache : caches_) {
      cache.key = moved(cache.key, some, new_tokens_, slots_);
      cache.value = moved(cache.value, some, new_tokens_, slots_);
    }
  }
  examples_ = std::move(examples);
  of_sequence_ = std::move(of_sequence);
}

Tensor CachedDecoder::extend(const std::vector<int64_t>& parents, const std::vector<int32_t>& tokens) {
  go_on_with(parents);
  std::vector<int64_t> positions;
  for (int64_t example : of_sequence_) positions.push_back(prompts_.length(size_t(example)) + new_tokens_);
  const auto on_device = [&](const auto& values) {
    return torch::tensor(values).to(torch::kInt64).to(padding_.device());
  };
  Rows rows{{}, on_device(of_sequence_)};
  for (size_t g = 0; g < prompts_.clients.size(); ++g)
    rows.of_client.push_back(std::count_if(of_sequence_.begin(), of_sequence_.end(), [&](int64_t example) {
      return example >= prompts_.client_offsets[g] && example < prompts_.client_offsets[g + 1];
    }));
  const Tensor position = on_device(positions);
  std::optional<Rotary> rotary;
  if (config_.position_kind == PositionKind::rotary)
    rotary.emplace(config_.rotary_frequencies, position, padding_.options());

  Tensor hidden = embed(on_device(tokens), position);
  for (size_t layer = 0; layer < layers_.size(); ++layer) hidden = token_layer(layer, hidden, rows, rotary);
  ++new_tokens_;
  return scores(hidden);
}

// One layer over the newest token of each sequence [S, hidden].
Tensor CachedDecoder::token_layer(size_t layer, const Tensor& hidden, const Rows& rows,
                                  const std::optional<Rotary>& rotary) {
  const TransformerLayer& w = layers_[layer];
  const LayerSites& sites = sites_[layer];
  Cache& cache = caches_[layer];
  const Tensor read = normalise(hidden, w.attention_norm, config_);
  Tensor query = linear(read, w.query, sites.query, rows);
  Tensor key = linear(read, w.key, sites.key, rows);
  const Tensor value = linear(read, w.value, sites.value, rows);
  if (rotary) {
    query = rotary->turn(query);
    key = rotary->turn(key);
  }
  const auto one_token = [&](const Tensor& x) {
    return x.view({x.size(0), config_.key_heads, config_.head_width});
  };
  cache.key.select(2, new_tokens_).copy_(one_token(key));
  cache.value.select(2, new_tokens_).copy_(one_token(value));
  return finish(layer, hidden, cached_attention(query, cache), rows);
}

// softmax(query key^T scale) value by head, over a prompt and the new tokens: [S, heads * width].
Tensor CachedDecoder::cached_attention(const Tensor& query, const Cache& cache) const {
  const int64_t sequences = query.size(0), prompts = cache.prompt_key.size(0), of_each = sequences / prompts,
                keys = config_.key_heads, readers = config_.heads / keys, width = config_.head_width,
                prompt = cache.prompt_key.size(2), added = new_tokens_ + 1;
  // Rows [prompts, of each, keys, readers, c], and by key head: [prompts, keys, of each * readers, c].
  const auto by_prompt = [&](const Tensor& x) {
    return x.view({prompts, of_each, keys, readers, -1})
        .transpose(1, 2)
        .reshape({prompts, keys, of_each * readers, x.size(-1)});
  };
  const auto by_sequence = [&](const Tensor& x) {
    return x.view({prompts, keys, of_each, readers, -1})
        .transpose(1, 2)
        .reshape({sequences, keys, readers, x.size(-1)});
  };
  const Tensor asked = (query / std::sqrt(double(width))).view({sequences, keys, readers, width});
  Tensor padding = padding_;
  if (prompt > longest_) padding = torch::constant_pad_nd(padding, {prompt - longest_, 0}, 0);
  const Tensor of_prompt = torch::matmul(by_prompt(asked), cache.prompt_key.transpose(2, 3)) + padding;
  const Tensor of_new = torch::matmul(asked, cache.key.narrow(2, 0, added).transpose(2, 3));
  const Tensor shares = torch::softmax(torch::cat({by_sequence(of_prompt), of_new}, 3), 3);
  const Tensor from_prompt =
      torch::matmul(by_prompt(shares.narrow(3, 0, prompt).contiguous()), cache.prompt_value);
  const Tensor from_new = torch::matmul(shares.narrow(3, prompt, added), cache.value.narrow(2, 0, added));
  return (by_sequence(from_prompt) + from_new).reshape(query.sizes());
}

}  // namespace pf2lora
