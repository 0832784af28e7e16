#include "model/rotary.h"

#include <torch/types.h>

namespace pf2lora {

using torch::Tensor;

Rotary::Rotary(const std::vector<double>& frequencies, const Tensor& positions,
               const torch::TensorOptions& options) {
  const Tensor turns = torch::tensor(frequencies, torch::kFloat64).to(positions.device());
  const Tensor angles = (positions.to(torch::kFloat64).unsqueeze(1) * turns).unsqueeze(1);
  cosine_ = angles.cos().to(options);
  sine_ = angles.sin().to(options);
}

Rotary Rotary::at(const Tensor& rows) const {
  Rotary some;
  some.cosine_ = cosine_.index_select(0, rows);
  some.sine_ = sine_.index_select(0, rows);
  return some;
}

Tensor Rotary::turn(const Tensor& x) const {
  const int64_t half = cosine_.size(2);
  const Tensor heads = x.view({x.size(0), -1, 2 * half});
  const Tensor first = heads.narrow(2, 0, half), second = heads.narrow(2, half, half);
  return torch::cat({first * cosine_ - second * sine_, second * cosine_ + first * sine_}, 2).view(x.sizes());
}

}  // namespace pf2lora
