// Layer normalisation whose second derivative is written out.
#pragma once
#include <torch/types.h>

namespace pf2lora {

// (x - mean) / sqrt(variance + epsilon) * weight + bias over the last dimension of x [T, C]; weight and bias
// [C] are constants. Can be differentiated twice with respect to x.
torch::Tensor layer_norm(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                         double epsilon);

}  // namespace pf2lora
