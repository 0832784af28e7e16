// Rotary positions (Su et al. 2021, arXiv 2104.09864), in the halves that transformers pairs: number i of a head
// turns together with number i + width / 2.
#pragma once
#include <torch/types.h>

#include <vector>

namespace pf2lora {

class Rotary {
 public:
  // `frequencies` [width / 2] radians a position, `positions` [T] int64.
  Rotary(const std::vector<double>& frequencies, const torch::Tensor& positions,
         const torch::TensorOptions& options);
  // Of those rows alone.
  Rotary at(const torch::Tensor& rows) const;
  // x [T, heads * width], each head of a row turned by the row's position.
  torch::Tensor turn(const torch::Tensor& x) const;

 private:
  Rotary() = default;
  torch::Tensor cosine_, sine_;  // [T, 1, width / 2]
};

}  // namespace pf2lora
