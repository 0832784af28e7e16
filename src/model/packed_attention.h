// Attention within the examples of a packed batch. Examples of like length share a bucket and are padded to
// its longest, so little is computed at padding.
#pragma once
#include <torch/types.h>

#include <span>
#include <vector>

namespace pf2lora {

struct AttentionBucket {
  int64_t sequences;   // examples * heads
  int64_t longest;     // tokens of its longest example
  torch::Tensor mask;  // [sequences, 1, longest], 0 at tokens and -inf at padding
};

// Padded rows are [hidden / heads] wide; they stand bucket by bucket, then by example, head and position.
struct AttentionIndex {
  // Longest first; every example has more than half the tokens of the longest in its bucket.
  std::vector<AttentionBucket> buckets;
  torch::Tensor tokens;  // [T * heads] int64, the padded row of each head of each token
  torch::Tensor firsts;  // [N * heads], the same where the first token of each example stands alone
  torch::Tensor order;   // [N] int64, the examples as they stand in the buckets
};

// `token_offsets` [N + 1] into the packed tokens.
AttentionIndex index_attention(std::span<const int64_t> token_offsets, int64_t heads,
                               const torch::TensorOptions& options);

// softmax(query key^T / sqrt(hidden / heads)) value by head. key and value are [T, hidden]; query is too, or
// [N, hidden] where only the first token of each example asks. The result is of query's shape. A prefix
// [N, p, hidden] of each example stands before its keys and values.
torch::Tensor packed_attention(const torch::Tensor& query, const torch::Tensor& key,
                               const torch::Tensor& value, const AttentionIndex& index, bool first_only,
                               const torch::Tensor& prefix_key = {}, const torch::Tensor& prefix_value = {});

}  // namespace pf2lora
