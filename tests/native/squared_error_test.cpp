#include "native/squared_error.h"

#include <gtest/gtest.h>

#include "native/loss.h"

namespace pf2lora::native {
namespace {

template <class T>
double difference_from_autograd() {
  torch::manual_seed(3);
  const BatchShape batch = ragged_batch();
  const Tensor scores = draw({6}, type_of<T>()), t_scores = draw({6}, type_of<T>());
  const Tensor targets = draw({6}, type_of<T>()), losses = torch::empty_like(scores);
  LossDerivatives ours{{}, torch::empty_like(scores), torch::empty_like(scores)};
  squared_error<T>(numbers_of<T>(scores), numbers_of<T>(targets), data<T>(losses));
  ours.loss = sum_of_client_means(losses, batch, Per::example);
  squared_error_gradient<T>(numbers_of<T>(scores), numbers_of<T>(targets), batch, data<T>(ours.gradient));
  squared_error_gradient_tangent<T>(data<T>(t_scores), batch, data<T>(ours.gradient_tangent));
  return ours.difference_from(LossDerivatives::of(
      [&](const Tensor& x) {
        const Tensor apart = torch::mse_loss(x, targets.to(torch::kFloat64), at::Reduction::None);
        return sum_of_client_means(apart, batch, Per::example);
      },
      scores, t_scores));
}

TEST(SquaredError, AgreesWithAutograd) {
  EXPECT_LT(difference_from_autograd<double>(), 1e-14);
  EXPECT_LT(difference_from_autograd<float>(), 1e-6);
}

}  // namespace
}  // namespace pf2lora::native
