#include "model/layer_functions.h"

#include <torch/types.h>

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

Tensor by_query_head(const Tensor& x, const ModelConfig& config) {
  if (config.key_heads == config.heads) return x;
  return x.view({x.size(0), config.key_heads, 1, config.head_width})
      .expand({-1, -1, config.heads / config.key_heads, -1})
      .reshape({x.size(0), config.query_width()});
}

}  // namespace pf2lora
