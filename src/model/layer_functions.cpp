#include "model/layer_functions.h"

#include <torch/torch.h>

#include "model/layer_norm.h"

namespace pf2lora {

using torch::Tensor;

Tensor activate(const std::string& name, const Tensor& x) {
  if (name == "relu") return torch::relu(x);
  if (name == "silu") return torch::silu(x);
  if (name == "tanh") return torch::tanh(x);
  return torch::gelu(x, name == "gelu" ? "none" : "tanh");
}

Tensor normalise(const Tensor& x, const FrozenNorm& norm, const ModelConfig& config) {
  if (config.norm == NormKind::layer) return layer_norm(x, norm.weight, norm.bias, config.norm_epsilon);
  return norm.weight * (x * torch::rsqrt(x.square().mean(1, /*keepdim=*/true) + config.norm_epsilon));
}

}  // namespace pf2lora
