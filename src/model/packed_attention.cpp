#include "model/packed_attention.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "model/packed_rows.h"

namespace pf2lora {

using torch::Tensor;

AttentionIndex index_attention(std::span<const int64_t> token_offsets, int64_t heads,
                               const torch::TensorOptions& options) {
  const int64_t examples = int64_t(token_offsets.size()) - 1;
  const auto length = [&](int64_t i) { return token_offsets[size_t(i) + 1] - token_offsets[size_t(i)]; };
  std::vector<int64_t> order(static_cast<size_t>(examples));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });

  AttentionIndex index;
  index.tokens = torch::empty({token_offsets.back() * heads}, torch::kInt64);
  index.firsts = torch::empty({examples * heads}, torch::kInt64);
  int64_t* const tokens = index.tokens.data_ptr<int64_t>();
  int64_t* const firsts = index.firsts.data_ptr<int64_t>();
  int64_t row = 0, sequence = 0;
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    const int64_t longest = length(order[begin]);
    for (end = begin + 1; end < order.size() && 2 * length(order[end]) > longest;) ++end;
    const int64_t sequences = int64_t(end - begin) * heads;
    Tensor mask =
        torch::full({sequences, 1, longest}, -std::numeric_limits<double>::infinity(), torch::kFloat64);
    double* open = mask.data_ptr<double>();
    for (size_t e = begin; e < end; ++e) {
      const int64_t first = token_offsets[size_t(order[e])];
      for (int64_t head = 0; head < heads; ++head, ++sequence, row += longest, open += longest) {
        for (int64_t p = 0; p < length(order[e]); ++p) tokens[(first + p) * heads + head] = row + p;
        firsts[order[e] * heads + head] = sequence;
        std::fill_n(open, length(order[e]), 0.0);
      }
    }
    index.buckets.push_back({sequences, longest, mask.to(options)});
  }
  index.order = torch::tensor(order, torch::kInt64);
  for (Tensor* rows : {&index.tokens, &index.firsts, &index.order}) *rows = rows->to(options.device());
  return index;
}

Tensor packed_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                        const AttentionIndex& index, bool first_only, const Tensor& prefix_key,
                        const Tensor& prefix_value) {
  const Tensor& asking = first_only ? index.firsts : index.tokens;
  const int64_t width = key.numel() / index.tokens.size(0);  // of a head
  const int64_t prefix = prefix_key.defined() ? prefix_key.size(1) : 0;
  std::vector<int64_t> query_rows, key_rows, sequences;
  for (const AttentionBucket& bucket : index.buckets) {
    sequences.push_back(bucket.sequences);
    query_rows.push_back(bucket.sequences * (first_only ? 1 : bucket.longest));
    key_rows.push_back(bucket.sequences * bucket.longest);
  }
  const auto pad = [&](const Tensor& x, const Tensor& at, const std::vector<int64_t>& rows) {
    const int64_t count = std::accumulate(rows.begin(), rows.end(), int64_t(0));
    return spread_rows(x.view({-1, width}), at, count).split_with_sizes(rows);
  };
  // [N, p, hidden] by bucket and sequence: [sequences, p, width] each.
  const auto by_bucket = [&](const Tensor& x) {
    return x.index_select(0, index.order)
        .view({x.size(0), prefix, -1, width})
        .transpose(1, 2)
        .reshape({-1, prefix, width})
        .split_with_sizes(sequences);
  };
  const auto queries = pad(query * (1 / std::sqrt(double(width))), asking, query_rows);
  const auto keys = pad(key, index.tokens, key_rows);
  const auto values = pad(value, index.tokens, key_rows);
  std::vector<Tensor> prefix_keys, prefix_values;
  if (prefix > 0) {
    prefix_keys = by_bucket(prefix_key);
    prefix_values = by_bucket(prefix_value);
  }

  std::vector<Tensor> mixed;
  for (size_t i = 0; i < index.buckets.size(); ++i) {
    const auto by_sequence = [&](const Tensor& x) { return x.view({sequences[i], -1, width}); };
    Tensor bucket_keys = by_sequence(keys[i]), bucket_values = by_sequence(values[i]);
    Tensor mask = index.buckets[i].mask;
    if (prefix > 0) {
      bucket_keys = torch::cat({prefix_keys[i], bucket_keys}, 1);
      bucket_values = torch::cat({prefix_values[i], bucket_values}, 1);
      mask = torch::constant_pad_nd(mask, {prefix, 0}, 0);
    }
    const Tensor scores = torch::baddbmm(mask, by_sequence(queries[i]), bucket_keys.transpose(1, 2));
    mixed.push_back(torch::bmm(torch::softmax(scores, -1), bucket_values).view({-1, width}));
  }
  return take_rows(mixed.size() == 1 ? mixed[0] : torch::cat(mixed), asking).view(query.sizes());
}

}  // namespace pf2lora
