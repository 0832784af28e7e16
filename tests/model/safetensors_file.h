// Writes model.safetensors files by the format's own description: 8 bytes with the length of the header, the
// header in JSON, the tensors' bytes end to end.
#pragma once
#include <torch/types.h>

#include <cstring>
#include <map>
#include <string>

#include "io/temporary_directory.h"
#include "model/transformer_weights.h"

namespace pf2lora {

using NamedTensors = std::map<std::string, torch::Tensor>;

inline std::string safetensors_header(uint64_t length, const std::string& header) {
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header;
}

inline std::string safetensors_bytes(const NamedTensors& tensors) {
  const std::map<torch::ScalarType, std::string> names = {{torch::kFloat64, "F64"},
                                                          {torch::kFloat32, "F32"},
                                                          {torch::kFloat16, "F16"},
                                                          {torch::kBFloat16, "BF16"},
                                                          {torch::kInt64, "I64"}};
  std::string header = R"({"__metadata__": {"format": "pt"})", data;
  for (const auto& [name, tensor] : tensors) {
    const auto dense = tensor.contiguous();
    std::string shape;
    for (int64_t extent : dense.sizes()) shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
    const size_t begin = data.size();
    data.append(static_cast<const char*>(dense.data_ptr()), dense.nbytes());
    header += ", \"" + name + R"(": {"dtype": ")" + names.at(dense.scalar_type()) + R"(", "shape": [)" +
              shape + R"(], "data_offsets": [)" + std::to_string(begin) + ", " + std::to_string(data.size()) +
              "]}";
  }
  header += "}";
  while (header.size() % 8 != 0) header += " ";
  return safetensors_header(header.size(), header) + data;
}

// The tensors of a BERT encoder under the names that transformers gives them; weights.positions[0] without
// the token types.
inline NamedTensors named_tensors(const TransformerWeights& weights, const torch::Tensor& token_types,
                                  const std::string& prefix = "") {
  NamedTensors all;
  const auto put = [&](const std::string& name, const auto& part) {
    all[prefix + name + ".weight"] = part.weight;
    all[prefix + name + ".bias"] = part.bias;
  };
  all[prefix + "embeddings.word_embeddings.weight"] = weights.words;
  all[prefix + "embeddings.position_embeddings.weight"] = weights.positions[0];
  all[prefix + "embeddings.token_type_embeddings.weight"] = token_types;
  put("embeddings.LayerNorm", weights.embedding_norm);
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const TransformerLayer& layer = weights.layers[i];
    const std::string name = "encoder.layer." + std::to_string(i) + ".";
    put(name + "attention.self.query", layer.query);
    put(name + "attention.self.key", layer.key);
    put(name + "attention.self.value", layer.value);
    put(name + "attention.output.dense", layer.attention_output);
    put(name + "attention.output.LayerNorm", layer.attention_norm);
    put(name + "intermediate.dense", layer.intermediate);
    put(name + "output.dense", layer.output);
    put(name + "output.LayerNorm", layer.output_norm);
  }
  put("pooler.dense", weights.pooler);
  return all;
}

}  // namespace pf2lora
