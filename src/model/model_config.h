// config.json of a transformers model directory.
#pragma once
#include <cstdint>
#include <string>

namespace pf2lora {

struct ModelConfig {
  std::string architecture;  // model_type
  std::string activation;    // gelu, gelu_new, gelu_pytorch_tanh or relu
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0;
  int64_t intermediate = 0;
  int64_t vocabulary = 0;
  int64_t positions = 0;
  int64_t token_types = 0;
  double norm_epsilon = 1e-12;
};

// Reads <directory>/config.json. Throws InputError for a missing or damaged file, an architecture or
// activation that is not supported (with the list of those that are), or shapes that cannot be.
ModelConfig read_model_config(const std::string& directory);

}  // namespace pf2lora
