#include "model/readout.h"

namespace pf2lora {

std::optional<HeadShape> head_shape(const Readout& readout, int64_t hidden) {
  if (readout.task == Task::generation) return std::nullopt;
  const int64_t scores = readout.task == Task::regression ? 1 : readout.task == Task::span ? 2 : readout.classes;
  return HeadShape{scores, hidden, readout.dense ? hidden : 0};
}

}  // namespace pf2lora
