// What layers of transformers are made of, without adapters.
#pragma once
#include <torch/types.h>

#include <string>

#include "model/transformer_weights.h"

namespace pf2lora {

// x, of any shape, through the activation that a config.json names so.
torch::Tensor activate(const std::string& name, const torch::Tensor& x);

// x [T, hidden] normalised as the model does it.
torch::Tensor normalise(const torch::Tensor& x, const FrozenNorm& norm, const ModelConfig& config);

// The keys or values that each query head reads: [T, heads * width] of [T, key heads * width].
torch::Tensor by_query_head(const torch::Tensor& x, const ModelConfig& config);

}  // namespace pf2lora
