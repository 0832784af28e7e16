#include "algorithm/own_copy.h"

#include <torch/types.h>

namespace pf2lora {

OwnCopy::OwnCopy(const TrainedLevel& common, const TrainedLevel& own, ParameterLayout& client)
    : common_(common), own_(own), mark_(client.slices()[client.add("started", {1})].offset) {}

torch::Tensor OwnCopy::begun(const ClientGroup& group) const {
  return group.own.select(1, mark_).gt(0);
}

torch::Tensor OwnCopy::rows(const ClientGroup& group) const {
  const torch::Tensor own = own_.rows(group), begun = this->begun(group).unsqueeze(1);
  if (begun.all().item<bool>()) return own;
  const int64_t alike = std::min(common_.level().size(), own.size(1));
  const torch::Tensor shared =
      torch::where(begun, own.narrow(1, 0, alike), common_.rows(group).narrow(1, 0, alike));
  return torch::cat({shared, own.narrow(1, alike, own.size(1) - alike)}, 1);
}

void OwnCopy::begin(ClientGroup& group) const {
  own_.set_rows(group, rows(group));
  group.own.select(1, mark_).fill_(1);
}

}  // namespace pf2lora
