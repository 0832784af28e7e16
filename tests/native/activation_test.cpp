#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <cmath>

#include "native/oracle.h"

namespace pf2lora::native {
namespace {

class Activations : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, Activations, testing::ValuesIn(supported_processors()), processor_name);

Tensor apply(Activation kind, const Tensor& x) {
  switch (kind) {
    case Activation::gelu:
      return torch::gelu(x);
    case Activation::gelu_tanh:
      return torch::gelu(x, "tanh");
    case Activation::relu:
      return torch::relu(x);
    case Activation::silu:
      return torch::silu(x);
    case Activation::tanh:
      return torch::tanh(x);
  }
  return {};
}

constexpr Activation kKinds[]{Activation::gelu, Activation::gelu_tanh, Activation::relu, Activation::silu,
                              Activation::tanh};

// f, f' and f'' by the table, [3, count].
template <class T>
Tensor activated(const Kernels<T>& table, Activation kind, const Tensor& x) {
  const Tensor all = torch::full({3, x.numel()}, NAN, x.options());
  table.activation(kind, x.numel(), data<T>(x), data<T>(all[0]), data<T>(all[1]), data<T>(all[2]));
  return all;
}

// Largest differences, absolute and relative to the number itself, from autograd in double.
template <class T>
std::pair<double, double> activation_errors(const Kernels<T>& table, Activation kind, double largest) {
  const Tensor x = torch::linspace(-largest, largest, 100'001, torch::kFloat64).to(type_of<T>());
  const Tensor exact = x.to(torch::kFloat64).requires_grad_();
  const Tensor value = apply(kind, exact);
  const Tensor slope = torch::autograd::grad({value.sum()}, {exact}, {}, true, true)[0];
  const Tensor curvature =
      slope.requires_grad() ? torch::autograd::grad({slope.sum()}, {exact}, {}, {}, {}, true)[0] : Tensor();
  const Tensor theirs = torch::stack(
      {value.detach(), slope.detach(), curvature.defined() ? curvature : torch::zeros_like(value)});
  const Tensor off = (activated<T>(table, kind, x).to(torch::kFloat64) - theirs).abs();
  const Tensor relative = (off / (theirs.abs() + 1e-300)).index_select(0, torch::tensor({0}));
  return {off.max().template item<double>(), relative.max().template item<double>()};
}

TEST_P(Activations, AgreeWithAutogradInDouble) {
  for (const Activation kind : kKinds) EXPECT_LT(activation_errors(table<double>(), kind, 9).first, 1e-14);
}

TEST_P(Activations, AgreeWithAutogradInFloat) {
  for (const Activation kind : kKinds) EXPECT_LT(activation_errors(table<float>(), kind, 9).first, 1.5e-6);
}

// tanh has its digits near 0 too, where 1 - e^(-2x) would lose them.
TEST_P(Activations, TanhKeepsItsDigitsNearZero) {
  EXPECT_LT(activation_errors(table<float>(), Activation::tanh, 1e-3).second, 5e-7);
  EXPECT_LT(activation_errors(table<double>(), Activation::tanh, 1e-3).second, 1e-15);
}

TEST_P(Activations, DerivativesLeftOutAndInPlaceGiveTheSameBits) {
  for (const Activation kind : kKinds) {
    const Tensor x = 3 * draw({77}, torch::kFloat32), all = activated<float>(table<float>(), kind, x);
    const Tensor value = torch::empty({77}), slope = torch::empty({77});
    table<float>().activation(kind, 77, data<float>(x), data<float>(value), nullptr, nullptr);
    EXPECT_TRUE(same_bits(value, all[0]));
    table<float>().activation(kind, 77, data<float>(x), data<float>(x), data<float>(slope), nullptr);
    EXPECT_TRUE(same_bits(x, all[0]));
    EXPECT_TRUE(same_bits(slope, all[1]));
  }
}

TEST_P(Activations, NumberHasTheSameBitsAtAnyPlace) {
  const Tensor x = 3 * draw({70}, torch::kFloat32);
  for (const Activation kind : kKinds)
    for (int64_t first = 0; first < 20; ++first)
      ASSERT_TRUE(same_bits(activated<float>(table<float>(), kind, x.narrow(0, first, 50)),
                            activated<float>(table<float>(), kind, x).narrow(1, first, 50)));
}

TEST_P(Activations, LargeAndUndefinedNumbers) {
  const Tensor x = torch::tensor({-1e30, -200.0, 200.0, 1e30, double(NAN)}, torch::kFloat32);
  for (const Activation kind : kKinds) {
    const Tensor y = activated<float>(table<float>(), kind, x)[0];
    const Tensor theirs = apply(kind, x);
    EXPECT_LT(difference(y.narrow(0, 1, 2), theirs.narrow(0, 1, 2)), 1e-6);
    EXPECT_LT(difference(y.narrow(0, 3, 1), theirs.narrow(0, 3, 1)), 1e-6);
    EXPECT_TRUE(std::isnan(y[4].item<float>()));
  }
}

}  // namespace
}  // namespace pf2lora::native
