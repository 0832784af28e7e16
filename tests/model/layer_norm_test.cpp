#include "model/layer_norm.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/types.h>

namespace pf2lora {
namespace {

using torch::Tensor;

constexpr double kEpsilon = 1e-3;  // large enough to be seen

Tensor from_definition(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const Tensor centred = x - x.mean(1, true);
  return centred / (centred.square().mean(1, true) + kEpsilon).sqrt() * weight + bias;
}

TEST(LayerNorm, AgreesWithItsDefinitionInValueAndTwoDerivatives) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    torch::manual_seed(seed);
    const auto draw = [](std::vector<int64_t> shape) { return torch::randn(shape, torch::kFloat64); };
    const Tensor x = (0.1 + draw({7, 5})).requires_grad_(), pull = draw({7, 5}).requires_grad_();
    const Tensor weight = draw({5}), bias = draw({5}), direction = draw({7, 5});
    const auto all = [&](const Tensor& y) {
      const Tensor first = torch::autograd::grad({y.sin()}, {x}, {pull}, true, true)[0];
      const auto second = torch::autograd::grad({first}, {x, pull}, {direction});
      return std::vector{y, first, second[0], second[1]};
    };
    const auto ours = all(layer_norm(x, weight, bias, kEpsilon));
    const auto theirs = all(from_definition(x, weight, bias));
    for (size_t i = 0; i < ours.size(); ++i)
      EXPECT_TRUE(torch::allclose(ours[i], theirs[i], 1e-11, 1e-12)) << "seed " << seed << ", result " << i;
  }
}

}  // namespace
}  // namespace pf2lora
