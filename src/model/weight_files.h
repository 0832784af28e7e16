// The weights of a transformers model directory: model.safetensors, or the shards that
// model.safetensors.index.json names.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "model/safetensors.h"

namespace pf2lora {

// Throws InputError where an index is damaged; names model.safetensors where there is neither.
std::vector<std::string> weight_file_paths(const std::string& directory);

class WeightFiles {
 public:
  // Throws InputError where a file is missing, truncated or foreign.
  explicit WeightFiles(const std::string& directory);

  bool contains(const std::string& name) const { return file_of(name) != nullptr; }
  // As SafeTensors::get.
  torch::Tensor get(const std::string& name, const std::vector<int64_t>& shape) const;

 private:
  const SafeTensors* file_of(const std::string& name) const;

  std::string directory_;
  std::vector<SafeTensors> files_;
};

}  // namespace pf2lora
