// A memory-mapped model.safetensors: all ranks of a node share one copy of the weights.
#pragma once
#include <torch/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace pf2lora {

class SafeTensors {
 public:
  // Maps the file and reads its header. Throws InputError for a file that is missing, truncated or foreign.
  explicit SafeTensors(const std::string& path);

  bool contains(const std::string& name) const { return entries_.contains(name); }
  // The tensor of that name, a view of its part of the mapped file, which is mapped as long as the tensor
  // lives. Throws InputError where it is missing, has another shape or is not of a floating type.
  torch::Tensor get(const std::string& name, const std::vector<int64_t>& shape) const;
  // Those of the types that `get` knows, by name.
  std::vector<std::string> names() const;
  const std::vector<int64_t>& shape(const std::string& name) const { return entries_.at(name).shape; }
  const std::string& path() const { return path_; }

 private:
  struct Entry {
    torch::ScalarType type;
    std::vector<int64_t> shape;
    size_t begin, bytes;
  };
  struct OpenFile;
  std::string path_;
  std::shared_ptr<const OpenFile> file_;
  std::map<std::string, Entry> entries_;
};

}  // namespace pf2lora
