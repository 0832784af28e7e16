// Where the tokens of a packed batch stand among the packed rows [T, ...], over which everything token by
// token runs, and among the padded rows that attention alone uses.
#pragma once
#include <torch/types.h>

#include <vector>

#include "data/batch.h"
#include "model/packed_attention.h"

namespace pf2lora {

struct PackedIndex {
  int64_t examples = 0;     // N
  torch::Tensor tokens;     // [T] int64
  torch::Tensor positions;  // [T] int64, from 0 in each example
  torch::Tensor first;      // [N] int64, packed row of each example's first token
  torch::Tensor example;    // [T] int64, the example of each token
  torch::Tensor share;      // [G, N], 1 / n_g where example i is client g's: means over a client's examples
  torch::Tensor labels;     // [N] int64
  std::vector<int64_t> client_tokens;    // [G]
  std::vector<int64_t> client_examples;  // [G]
  AttentionIndex attention;
};

PackedIndex index_batch(const Batch& batch, int64_t heads, const torch::TensorOptions& options);

}  // namespace pf2lora
