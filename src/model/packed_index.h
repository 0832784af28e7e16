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
// S is the number of rows that are scored: one an example, a token, or a token to be generated.
struct PackedIndex {
  int64_t examples = 0;     // N
  torch::Tensor tokens;     // [R] int64
  torch::Tensor positions;  // [R] int64, from 0 in each example, prompts not counted
  torch::Tensor types;      // [R] int64; undefined: all 0
  torch::Tensor first;      // [N] int64, packed row of each example's first token
  torch::Tensor last;       // [N] int64, packed row of each example's last token
  torch::Tensor example;    // [T] int64, the example of each packed row
  torch::Tensor token_example;  // [R] int64, of each token
  torch::Tensor client;     // [N] int64, the client of each example, by its place in the group
  torch::Tensor share;      // [G, N], 1 / units of client g where example i is its own: means over its units
  torch::Tensor units;      // [N] what an example's loss is a sum over: tokens to be generated, else 1
  torch::Tensor labels;     // [N] int64
  torch::Tensor values;     // [N]; undefined where the batch has none
  torch::Tensor spans;      // [N, 2] int64; undefined where the batch has none
  // Of tokens to be generated, undefined where the batch has none: the packed row that each is read from, the
  // token itself, and its example.
  torch::Tensor target_rows, target_tokens, target_example;  // [S] int64
  std::vector<int64_t> client_tokens;    // [G] packed rows of each client, prompts included
  std::vector<int64_t> client_own_tokens, client_targets;  // [G] tokens, and tokens to be generated
  std::vector<int64_t> client_examples;  // [G]
  AttentionIndex attention;
  // Only with prompts: [T] int64, for each packed row its place among the tokens followed by the prompts
  // example by example; and [R] int64, the packed row of each token.
  torch::Tensor sources, token_rows;
};

// `prompt` is the number of vectors after the first token of each example.
PackedIndex index_batch(const Batch& batch, int64_t heads, const torch::TensorOptions& options,
                        int64_t prompt = 0, bool causal = false);

}  // namespace pf2lora
