// Where the tokens of a packed batch stand among the packed rows [T, ...], over which everything token by
// token runs, and among the padded rows that attention alone uses.
#pragma once
#include <torch/types.h>

#include <vector>

#include "data/batch.h"
#include "model/packed_attention.h"

namespace pf2lora {

// R is the number of the batch's own tokens, T that of all packed rows: the tokens, and after the first token
// of each example its prompt's vectors.
struct PackedIndex {
  int64_t examples = 0;     // N
  torch::Tensor tokens;     // [R] int64
  torch::Tensor positions;  // [R] int64, from 0 in each example, prompts not counted
  torch::Tensor first;      // [N] int64, packed row of each example's first token
  torch::Tensor example;    // [T] int64, the example of each packed row
  torch::Tensor client;     // [N] int64, the client of each example, by its place in the group
  torch::Tensor share;      // [G, N], 1 / n_g where example i is client g's: means over a client's examples
  torch::Tensor labels;     // [N] int64
  std::vector<int64_t> client_tokens;    // [G] packed rows of each client
  std::vector<int64_t> client_examples;  // [G]
  AttentionIndex attention;
  // Only with prompts: [T] int64, for each packed row its place among the tokens followed by the prompts
  // example by example; and [R] int64, the packed row of each token.
  torch::Tensor sources, token_rows;
};

// `prompt` is the number of vectors after the first token of each example.
PackedIndex index_batch(const Batch& batch, int64_t heads, const torch::TensorOptions& options,
                        int64_t prompt = 0);

}  // namespace pf2lora
