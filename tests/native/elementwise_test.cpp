#include <gtest/gtest.h>
#include <torch/optim.h>

#include <cmath>

#include "native/oracle.h"

namespace pf2lora::native {
namespace {

constexpr int64_t kCounts[]{0, 1, 5, 16, 31, 1000};

class Elementwise : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, Elementwise, testing::ValuesIn(supported_processors()), processor_name);

TEST_P(Elementwise, MultipliesAndAdds) {
  for (const int64_t count : kCounts) {
    Tensor x[5];
    for (Tensor& numbers : x) numbers = draw({count});
    const auto at = [&](int i) { return data<double>(x[i]); };
    const Tensor out = torch::empty({count}, torch::kFloat64);
    table().multiply(count, at(0), at(1), nullptr, nullptr, nullptr, data<double>(out));
    EXPECT_TRUE(torch::equal(out, x[0] * x[1]));
    table().multiply(count, at(0), at(1), at(2), at(3), at(4), data<double>(out));
    EXPECT_LT(difference(out, x[0] * x[1] + x[2] * x[3] * x[4]), 1e-15);
    table().multiply(count, at(0), at(1), at(2), at(3), nullptr, data<double>(out));
    EXPECT_LT(difference(out, x[0] * x[1] + x[2] * x[3]), 1e-15);
    table().multiply(count, at(0), at(1), at(2), at(3), at(4), data<double>(out));
    const Tensor in_place = x[3].clone();
    table().multiply(count, at(0), at(1), at(2), data<double>(in_place), at(4), data<double>(in_place));
    EXPECT_TRUE(torch::equal(in_place, out));
    const Tensor to = x[0].clone();
    table().add(count, data<double>(to), at(1), data<double>(to));
    EXPECT_TRUE(torch::equal(to, x[0] + x[1]));
  }
}

TEST_P(Elementwise, NumberHasTheSameBitsAtAnyPlace) {
  const Kernels<float>& table = this->table<float>();
  Tensor x[5];
  for (Tensor& numbers : x) numbers = draw({70}, torch::kFloat32);
  const auto multiplied = [&](int64_t first, int64_t count) {
    const Tensor out = torch::empty({count}, torch::kFloat32);
    const auto at = [&](int i) { return data<float>(x[i]) + first; };
    table.multiply(count, at(0), at(1), at(2), at(3), at(4), data<float>(out));
    return out;
  };
  for (int64_t first = 0; first < 20; ++first)
    ASSERT_TRUE(same_bits(multiplied(first, 50), multiplied(0, 70).narrow(0, first, 50)));
}

// Steps of torch.optim.AdamW itself.
template <class T>
double adamw_difference(const Kernels<T>& table, int64_t count) {
  constexpr double decay = 0.03;
  const auto type = type_of<T>();
  const Tensor start = draw({count}, type);
  Tensor row = start.clone(), moment1 = torch::zeros_like(row), moment2 = torch::zeros_like(row);
  Tensor theirs = start.clone().requires_grad_();
  torch::optim::AdamW optimizer(std::vector<Tensor>{theirs},
                                torch::optim::AdamWOptions(1).weight_decay(decay));
  for (int step = 1; step <= 30; ++step) {
    const double rate = 1e-2 * (1 + step % 3);
    const Tensor gradient = draw({count}, type) * std::pow(10.0, -(step % 5));
    for (auto& group : optimizer.param_groups()) group.options().set_lr(rate);
    theirs.mutable_grad() = gradient.clone();
    optimizer.step();
    const AdamwStep numbers{
        rate, 1 - rate * decay, 0.9, 0.999, 1e-8, 1 - std::pow(0.9, step), 1 - std::pow(0.999, step)};
    table.adamw(count, numbers, data<T>(gradient), data<T>(row), data<T>(moment1), data<T>(moment2));
  }
  return difference(row, theirs.detach());
}

TEST_P(Elementwise, AdamwStepsAsTorchDoes) {
  for (const int64_t count : kCounts) {
    EXPECT_LT(adamw_difference(table<double>(), count), 1e-14);
    EXPECT_LT(adamw_difference(table<float>(), count), 2e-6);
  }
}

}  // namespace
}  // namespace pf2lora::native
