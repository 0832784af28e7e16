// What the scores of a task are computed from.
#pragma once
#include <cstdint>
#include <optional>

#include "adapters/site.h"
#include "io/dataset_file.h"

namespace pf2lora {

// What the head reads of each example's last layer: the raw state of its first or last token, the file's
// pooler over the first, or the mean over tokens.
enum class Pooling { cls, pooler, mean, last };

struct Readout {
  Task task = Task::classification;
  Pooling pooling = Pooling::cls;  // of classification and regression
  int64_t classes = 0;             // of classification
  bool dense = false;              // the head has a dense layer before its scores

  // Whether there is one row of scores an example, not one a token or a token to be generated.
  bool by_example() const { return task == Task::classification || task == Task::regression; }
};

// Of the head that adapters carry over states of that width; nullopt where the frozen model itself scores.
std::optional<HeadShape> head_shape(const Readout& readout, int64_t hidden);

}  // namespace pf2lora
