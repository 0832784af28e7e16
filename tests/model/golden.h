// What tests/golden/make_bert_golden.py wrote, as the model takes it.
#pragma once
#include <torch/torch.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "adapters/level.h"
#include "data/batch.h"
#include "io/hdf5_file.h"
#include "model/transformer_weights.h"
#include "model/model_config.h"

namespace pf2lora {

inline std::string golden_directory() {
  const char* directory = std::getenv("PF2LORA_GOLDEN");
  if (directory == nullptr)
    throw std::runtime_error(
        "PF2LORA_GOLDEN is not set: name the folder that tests/golden/make_bert_golden.py wrote");
  return directory;
}

class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_(Hdf5File::open(golden_directory() + "/" + name + ".h5")),
        tokens_(file_.read<int32_t>("tokens")),
        offsets_(file_.read<int64_t>("offsets")),
        labels_(file_.read<int32_t>("labels")) {}

  const Hdf5File& file() const { return file_; }
  int64_t size() const { return int64_t(labels_.size()); }

  torch::Tensor tensor(const std::string& name) const {
    return file_.holds<float>(name) ? tensor_of<float>(name) : tensor_of<double>(name);
  }
  Batch batch(const std::vector<int64_t>& clients, const std::vector<std::vector<int64_t>>& rows) const {
    return pack(clients, rows, {tokens_, offsets_, labels_});
  }
  // The level of the adapters at those sites, with the head.
  Level level(const std::vector<Site>& sites) const {
    const Shape down = file_.shape("adapters/" + sites.front().name + "/A"),
                head = file_.shape("head/weight");
    return Level(sites, down[0], file_.attribute<double>("adapters", "scale"), {"A", "B"},
                 HeadShape{head[0], head[1]});
  }
  // A row [level.size()] from the objects under `prefix`: adapters/<site>/A and B, head/weight and bias.
  torch::Tensor row(const Level& level, const std::string& prefix = "") const {
    std::vector<torch::Tensor> slices;
    for (const Slice& slice : level.layout().slices())
      slices.push_back(
          tensor(prefix + (slice.name.starts_with("head/") ? "" : "adapters/") + slice.name).flatten());
    return torch::cat(slices);
  }

 private:
  template <class T>
  torch::Tensor tensor_of(const std::string& name) const {
    const Shape shape = file_.shape(name);
    return torch::tensor(file_.read<T>(name), c10::CppTypeToScalarType<T>::value).view(shape);
  }

  Hdf5File file_;
  std::vector<int32_t> tokens_;
  std::vector<int64_t> offsets_;
  std::vector<int32_t> labels_;
};

}  // namespace pf2lora
