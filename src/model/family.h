// A family of architectures: how its config.json is read, and what transformers calls its tensors. A new one
// is a file and a row in the table.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "model/model_config.h"

namespace pf2lora {

// Modules by what they do; empty where the family has none. Those of a layer stand after Family::layer and the
// layer's number; where query, key and value are one module, it holds their rows one after the other.
struct ModuleNames {
  std::string words, positions, token_types, embedding_norm, relative_positions, relative_norm;
  std::string layer;  // such as encoder.layer.
  std::string query, key, value, attention_output, gate, intermediate, output;
  std::string attention_norm, output_norm;
  std::string final_norm, pooler, scores;
};

struct Family {
  std::string architecture;  // model_type of config.json
  std::string description;   // and which backends have it, for people
  void (*configure)(const nlohmann::json& json, ModelConfig& config);
  std::vector<std::string> prefixes;  // that names may have in files that were saved with a head
  ModuleNames names;
  bool transposed = false;  // matrices of layers are stored as [in, out]

  bool fused_projections() const { return names.query == names.key; }
};

std::span<const Family> families();

// Throws InputError naming the key where a key of a file is unlike the value that is supported.
void require(const nlohmann::json& json, const std::string& key, const nlohmann::json& supported);

// Rows of the table.
Family bert();
Family roberta();
Family distilbert();
Family deberta_v2();
Family gpt2();
Family llama();
Family qwen2();

}  // namespace pf2lora
