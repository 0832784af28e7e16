// Rows taken out of a tensor and put back at different places. Each is the other's derivative, so a second
// backward pass costs no more than the first.
#pragma once
#include <torch/types.h>

namespace pf2lora {

// x [M, C] at `rows` [K] int64, all different: [K, C].
torch::Tensor take_rows(const torch::Tensor& x, const torch::Tensor& rows);

// Zeros [count, C] with x [K, C] at `rows` [K] int64, all different.
torch::Tensor spread_rows(const torch::Tensor& x, const torch::Tensor& rows, int64_t count);

}  // namespace pf2lora
