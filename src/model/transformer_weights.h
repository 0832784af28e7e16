// The frozen weights of a transformer, whatever its family calls them.
#pragma once
#include <torch/types.h>

#include <string>
#include <vector>

#include "adapters/site.h"
#include "model/model_config.h"

namespace pf2lora {

struct FrozenLinear {
  torch::Tensor weight;  // [out, in]
  torch::Tensor bias;    // [out]; undefined: 0
};

struct FrozenNorm {
  torch::Tensor weight;  // [hidden]
  torch::Tensor bias;    // [hidden]; undefined in an RMS norm
};

struct TransformerLayer {
  FrozenLinear query, key, value, attention_output;
  FrozenLinear gate;  // undefined where the layer is not gated
  FrozenLinear intermediate, output;
  FrozenNorm attention_norm, output_norm;  // after or before attention and the layer's second half
};

struct TransformerWeights {
  ModelConfig config;
  torch::Tensor words;  // [vocabulary, hidden]
  // What each position adds to a token of each type: [token types or 1, positions, hidden]; without learned
  // positions [token types, 1, hidden], or undefined.
  torch::Tensor positions;
  FrozenNorm embedding_norm;       // undefined where the family has none
  FrozenNorm final_norm;           // undefined where norms come after
  torch::Tensor distances;         // [2 span, hidden] of relative positions, normalised; or undefined
  std::vector<TransformerLayer> layers;
  FrozenLinear pooler;   // undefined unless asked for
  torch::Tensor scores;  // [vocabulary, hidden] of next tokens; undefined unless asked for
  int64_t parameters() const;
};

// What is read beside the layers.
struct WantedWeights {
  bool pooler = false;
  bool scores = false;  // of next tokens
};

// Reads the weights of a model directory, whose names may have the prefix of a model saved with a head.
// Weights of the type of `options` stay in the mapped files; others are converted. Throws InputError naming the
// tensor that is missing or of another shape.
TransformerWeights read_transformer_weights(const std::string& directory, const ModelConfig& config,
                                            WantedWeights wanted, const torch::TensorOptions& options);

// The sites of the named targets in the given layers, layer by layer, in the order of a layer's computation.
std::vector<Site> transformer_sites(const ModelConfig& config, const std::vector<std::string>& targets,
                                    const std::vector<int64_t>& layers);

}  // namespace pf2lora
