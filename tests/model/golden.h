// What tests/golden/make_bert_golden.py and make_family_golden.py wrote, as the model takes it.
#pragma once
#include <torch/types.h>

#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "adapters/level.h"
#include "data/batch.h"
#include "io/dataset_file.h"
#include "io/hdf5_file.h"
#include "model/model_config.h"
#include "model/transformer_weights.h"

namespace pf2lora {

inline std::string golden_directory() {
  const char* directory = std::getenv("PF2LORA_GOLDEN");
  if (directory == nullptr)
    throw std::runtime_error(
        "PF2LORA_GOLDEN is not set: name the folder that the scripts of tests/golden wrote");
  return directory;
}

class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_(Hdf5File::open(golden_directory() + "/" + name + ".h5")),
        tokens_(file_.read<int32_t>("tokens")),
        offsets_(file_.read<int64_t>("offsets")),
        labels_(file_.read<int32_t>("labels")),
        token_types_(column<int8_t>("token_types")),
        values_(column<float>("values")),
        spans_(column<int32_t>("spans")),
        targets_(column<int32_t>("targets")) {}

  const Hdf5File& file() const { return file_; }
  int64_t size() const { return int64_t(labels_.size()); }

  torch::Tensor tensor(const std::string& name) const {
    return file_.holds<float>(name) ? tensor_of<float>(name) : tensor_of<double>(name);
  }
  Batch batch(const std::vector<int64_t>& clients, const std::vector<std::vector<int64_t>>& rows,
              Task task = Task::classification) const {
    ExampleColumns columns{tokens_, offsets_, labels_, token_types_};
    if (task == Task::regression) columns.values = values_;
    if (task == Task::span) columns.spans = spans_;
    if (task == Task::generation) columns.targets = targets_;
    return pack(clients, rows, columns);
  }
  // Of the model in that directory, with the rotary frequencies of the file where it has them.
  ModelConfig config(const std::string& directory) const {
    ModelConfig config = read_model_config(directory);
    if (file_.exists("frequencies")) {
      const std::vector<float> all = file_.read<float>("frequencies");
      config.rotary_frequencies.assign(all.begin(), all.end());
    }
    return config;
  }
  // The level of the adapters at those sites, with the head, if any, that stand under `prefix`.
  Level level(const std::vector<Site>& sites, const std::string& prefix = "") const {
    const Shape down = file_.shape(prefix + "adapters/" + sites.front().name + "/A");
    std::optional<HeadShape> head;
    if (const std::string name = prefix + "head/"; file_.exists(name + "weight")) {
      const Shape scores = file_.shape(name + "weight");
      head = {scores[0], scores[1]};
      if (file_.exists(name + "dense/weight")) {
        const Shape dense = file_.shape(name + "dense/weight");
        head = {scores[0], dense[1], dense[0]};
      }
    }
    return Level(sites, down[0], file_.attribute<double>(prefix + "adapters", "scale"), {"A", "B"}, head);
  }
  // A row [level.size()] from the objects under `prefix`: adapters/<site>/A and B, head/...
  torch::Tensor row(const Level& level, const std::string& prefix = "") const {
    std::vector<torch::Tensor> slices;
    for (const Slice& slice : level.layout().slices())
      slices.push_back(
          tensor(prefix + (slice.name.starts_with("head/") ? "" : "adapters/") + slice.name).flatten());
    return torch::cat(slices);
  }

 private:
  // Empty where the file has none.
  template <class T>
  std::vector<T> column(const std::string& name) const {
    return file_.exists(name) ? file_.read<T>(name) : std::vector<T>();
  }
  template <class T>
  torch::Tensor tensor_of(const std::string& name) const {
    const Shape shape = file_.shape(name);
    return torch::tensor(file_.read<T>(name), c10::CppTypeToScalarType<T>::value).view(shape);
  }

  Hdf5File file_;
  std::vector<int32_t> tokens_;
  std::vector<int64_t> offsets_;
  std::vector<int32_t> labels_;
  std::vector<int8_t> token_types_;
  std::vector<float> values_;
  std::vector<int32_t> spans_, targets_;
};

}  // namespace pf2lora
