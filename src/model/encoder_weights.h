// The frozen weights of a BERT-family encoder.
#pragma once
#include <torch/types.h>

#include <string>
#include <vector>

#include "adapters/site.h"
#include "model/model_config.h"

namespace pf2lora {

struct FrozenLinear {
  torch::Tensor weight;  // [out, in]
  torch::Tensor bias;    // [out]
};

struct FrozenNorm {
  torch::Tensor weight, bias;  // [hidden]
};

struct EncoderLayer {
  FrozenLinear query, key, value, attention_output, intermediate, output;
  FrozenNorm attention_norm, output_norm;
};

struct EncoderWeights {
  ModelConfig config;
  torch::Tensor words;      // [vocabulary, hidden]
  torch::Tensor positions;  // [positions, hidden], the embedding of token type 0 added
  FrozenNorm embedding_norm;
  std::vector<EncoderLayer> layers;
  FrozenLinear pooler;  // undefined unless asked for
  int64_t parameters() const;
};

// Reads <directory>/model.safetensors of a BERT model, with or without the prefix `bert.` of a model saved
// with a head. Float32 weights stay in the mapped file; others are converted to `options`.
EncoderWeights read_encoder_weights(const std::string& directory, const ModelConfig& config, bool pooler,
                                    const torch::TensorOptions& options);

// The sites of the named targets in the given layers, layer by layer, in the order of a layer's computation.
std::vector<Site> encoder_sites(const ModelConfig& config, const std::vector<std::string>& targets,
                                const std::vector<int64_t>& layers);

}  // namespace pf2lora
