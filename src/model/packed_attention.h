// Attention within the examples of a packed batch. Examples of like length share a bucket and are padded to
// its longest, so little is computed at padding.
#pragma once
#include <torch/types.h>

#include <span>
#include <vector>

#include "model/model_config.h"

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
  bool causal = false;   // a token attends to itself and those before it
};

// `token_offsets` [N + 1] into the packed tokens.
AttentionIndex index_attention(std::span<const int64_t> token_offsets, int64_t heads,
                               const torch::TensorOptions& options, bool causal = false);

// Which token of each example asks: every one, or only one of them.
enum class Asking { all, first, last };

// Keys and queries of relative positions, by `owner` [N] int64 of each example; undefined where they add
// nothing to the scores (DeBERTa, arXiv 2006.03654, equation 4).
struct RelativeScores {
  torch::Tensor key, query;  // [owners, 2 span, hidden]
  torch::Tensor owner;
  const RelativePositions* positions = nullptr;
};

// What stands before each example's keys and values; undefined: nothing.
struct AttentionPrefix {
  torch::Tensor key, value;  // [N, p, hidden]
};

// softmax(query key^T scale + ...) value by head. key and value are [T, hidden]; query is too, or [N, hidden]
// where one token of each example asks. The result is of query's shape.
torch::Tensor packed_attention(const torch::Tensor& query, const torch::Tensor& key,
                               const torch::Tensor& value, const AttentionIndex& index, Asking asking,
                               const AttentionPrefix& prefix = {}, const RelativeScores& relative = {});

// The row of RelativePositions' embeddings for query i and key j of an example, [queries, keys] int64, as
// transformers computes it.
torch::Tensor relative_rows(const RelativePositions& positions, int64_t queries, int64_t keys);

}  // namespace pf2lora
