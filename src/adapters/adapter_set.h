// Adapters are values: what a method hands to the frozen model with a batch, and the form in which gradients
// come back. G is the number of clients of the group.
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

struct AdapterSet {
  std::vector<LowRankPair> pairs;  // one a site, in the model's order of sites
  torch::Tensor head_weight;       // [G, classes, inputs], undefined where the problem has no head
  torch::Tensor head_bias;         // [G, classes]

  // Every defined tensor, in a fixed order: down and up site by site, then the head.
  std::vector<torch::Tensor> tensors() const;
  // The same structure with other tensors, given in the order of tensors().
  AdapterSet with_tensors(const std::vector<torch::Tensor>& replacements) const;
};

}  // namespace pf2lora
