#include "model/packed_attention.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "model/packed_rows.h"

namespace pf2lora {

using torch::Tensor;

AttentionIndex index_attention(std::span<const int64_t> token_offsets, int64_t heads,
                               const torch::TensorOptions& options, bool causal) {
  const int64_t examples = int64_t(token_offsets.size()) - 1;
  const auto length = [&](int64_t i) { return token_offsets[size_t(i) + 1] - token_offsets[size_t(i)]; };
  std::vector<int64_t> order(static_cast<size_t>(examples));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });

  AttentionIndex index{.causal = causal};
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

Tensor relative_rows(const RelativePositions& positions, int64_t queries, int64_t keys) {
  const Tensor distance = torch::arange(queries).unsqueeze(1) - torch::arange(keys).unsqueeze(0);
  Tensor row = distance;
  if (positions.buckets > 0) {
    // In single precision, as there: the buckets' borders come from rounding up.
    const int64_t middle = positions.buckets / 2;
    const Tensor size = torch::where(distance.abs() < middle, torch::tensor(middle - 1), distance.abs());
    const Tensor widest = torch::log(torch::tensor(float(double(positions.farthest - 1) / double(middle))));
    const Tensor far = torch::ceil(torch::log(size / middle) / widest * (middle - 1)) + middle;
    row = torch::where(size <= middle, distance.to(torch::kFloat32), far * distance.sign()).to(torch::kInt64);
  }
  return (row + positions.span()).clamp(0, 2 * positions.span() - 1);
}

Tensor packed_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                        const AttentionIndex& index, Asking asking, const AttentionPrefix& before,
                        const RelativeScores& relative) {
  const bool one = asking != Asking::all;
  const Tensor& asking_rows = one ? index.firsts : index.tokens;
  const int64_t width = key.numel() / index.tokens.size(0);  // of a head
  const int64_t prefix = before.key.defined() ? before.key.size(1) : 0;
  std::vector<int64_t> query_rows, key_rows, sequences;
  for (const AttentionBucket& bucket : index.buckets) {
    sequences.push_back(bucket.sequences);
    query_rows.push_back(bucket.sequences * (one ? 1 : bucket.longest));
    key_rows.push_back(bucket.sequences * bucket.longest);
  }
  const auto pad = [&](const Tensor& x, const Tensor& at, const std::vector<int64_t>& rows) {
    const int64_t count = std::accumulate(rows.begin(), rows.end(), int64_t(0));
    return spread_rows(x.view({-1, width}), at, count).split_with_sizes(rows);
  };
  // [N, p, hidden] by bucket and sequence: [sequences, p, width] each.
  const auto by_bucket = [&](const Tensor& x, const Tensor& order) {
    return x.index_select(0, order)
        .view({order.size(0), x.size(1), -1, width})
        .transpose(1, 2)
        .reshape({-1, x.size(1), width})
        .split_with_sizes(sequences);
  };
  const double terms = 1 + (relative.key.defined() ? 1 : 0) + (relative.query.defined() ? 1 : 0);
  const double scale = 1 / std::sqrt(double(width) * terms);
  const auto queries = pad(query * scale, asking_rows, query_rows);
  const auto keys = pad(key, index.tokens, key_rows);
  const auto values = pad(value, index.tokens, key_rows);
  std::vector<Tensor> prefix_keys, prefix_values, distance_keys, distance_queries;
  if (prefix > 0) {
    prefix_keys = by_bucket(before.key, index.order);
    prefix_values = by_bucket(before.value, index.order);
  }
  if (relative.owner.defined()) {
    const Tensor owner = relative.owner.index_select(0, index.order);
    if (relative.key.defined()) distance_keys = by_bucket(relative.key, owner);
    if (relative.query.defined()) distance_queries = by_bucket(relative.query * scale, owner);
  }

  std::vector<Tensor> mixed;
  for (size_t i = 0; i < index.buckets.size(); ++i) {
    const auto by_sequence = [&](const Tensor& x) { return x.view({sequences[i], -1, width}); };
    const Tensor bucket_queries = by_sequence(queries[i]);
    Tensor bucket_keys = by_sequence(keys[i]), bucket_values = by_sequence(values[i]);
    const int64_t longest = index.buckets[i].longest, asked = bucket_queries.size(1);
    Tensor mask = index.buckets[i].mask;
    if (index.causal && asking != Asking::last)
      mask = mask + torch::full({asked, longest}, -std::numeric_limits<double>::infinity(), mask.options())
                        .triu(1);
    // Query i and key j read column rows[i, j] of what each makes of the distances.
    if (relative.owner.defined()) {
      Tensor rows = relative_rows(*relative.positions, longest, longest).to(mask.device());
      if (asking == Asking::last) {
        const Tensor ends = index.buckets[i].mask.eq(0).sum(2).flatten() - 1;  // [sequences], last tokens
        rows = rows.index_select(0, ends).unsqueeze(1);
      } else {
        rows = rows.narrow(0, 0, asked).expand({sequences[i], asked, longest});
      }
      if (relative.key.defined())
        mask = mask + torch::bmm(bucket_queries, distance_keys[i].transpose(1, 2)).gather(2, rows);
      if (relative.query.defined())
        mask = mask + torch::bmm(bucket_keys, distance_queries[i].transpose(1, 2))
                          .gather(2, rows.transpose(1, 2))
                          .transpose(1, 2);
    }
    if (prefix > 0) {
      bucket_keys = torch::cat({prefix_keys[i], bucket_keys}, 1);
      bucket_values = torch::cat({prefix_values[i], bucket_values}, 1);
      mask = torch::constant_pad_nd(mask, {prefix, 0}, 0);
    }
    const Tensor scores = torch::baddbmm(mask, bucket_queries, bucket_keys.transpose(1, 2));
    mixed.push_back(torch::bmm(torch::softmax(scores, -1), bucket_values).view({-1, width}));
  }
  return take_rows(mixed.size() == 1 ? mixed[0] : torch::cat(mixed), asking_rows).view(query.sizes());
}

}  // namespace pf2lora
