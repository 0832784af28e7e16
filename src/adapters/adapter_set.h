// Adapters are values: what a method hands to the frozen model with a batch, and the form in which gradients
// come back. G is the number of clients of the group, N the number of examples of the batch.
#pragma once
#include <torch/types.h>

#include <vector>

namespace pf2lora {

// The low-rank update up * down of one site; both tensors are undefined where the site is not adapted.
struct LowRankPair {
  torch::Tensor down;  // [G, R, in]
  torch::Tensor up;    // [G, out, R]
  bool defined() const { return down.defined(); }
};

// Vectors that stand before a layer's own keys and values, so that every token may attend to them; both
// tensors are undefined where the layer has none. Prefix tuning, Li and Liang 2021 (arXiv 2101.00190), in the
// form of P-tuning v2, Liu et al. 2022 (arXiv 2110.07602): the vectors themselves are learned.
struct KeyValuePrefix {
  torch::Tensor key;    // [G, p, width]
  torch::Tensor value;  // [G, p, width]
  bool defined() const { return key.defined(); }
};

struct AdapterSet {
  std::vector<LowRankPair> pairs;      // one a site, in the model's order of sites; empty: no site is adapted
  torch::Tensor prompt;                // [G, p, width], undefined where there is none: inserted after the
                                       // first token. A vector stands for the sum of word, position and token
                                       // type embedding, so it has no position, tokens keep theirs, and it
                                       // goes through the norm of the embeddings with them
  std::vector<KeyValuePrefix> prefix;  // one a layer from the lowest, or fewer
  torch::Tensor head_dense_weight;     // [G, dense, inputs], undefined where the head is one layer
  torch::Tensor head_dense_bias;       // [G, dense]
  torch::Tensor head_weight;           // [G, classes, inputs or dense], undefined where there is no head
  torch::Tensor head_bias;             // [G, classes]

  // Constants, without gradients.
  std::vector<torch::Tensor> dense;  // one a site, or empty: [out, in] for the whole group, undefined where
                                     // there is none. A site then computes y + x dense^T
  torch::Tensor rank_weights;        // [N, R], undefined: all 1. At every site an example's x down^T is
                                     // multiplied by its row before up

  // Every defined tensor that has a gradient, in a fixed order: down and up site by site, the prompt, key and
  // value layer by layer, the head.
  std::vector<torch::Tensor> tensors() const;
  // The same structure and constants with other tensors, given in the order of tensors().
  AdapterSet with_tensors(const std::vector<torch::Tensor>& replacements) const;
};

}  // namespace pf2lora
