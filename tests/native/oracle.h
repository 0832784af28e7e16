// What LibTorch's autograd says of a function, in the terms of native/kernels.h, and the tables to be tested.
#pragma once
#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "native/kernels.h"

namespace pf2lora::native {

using torch::Tensor;

inline std::vector<Processor> supported_processors() {
  std::vector<Processor> found;
  for (const Processor processor : {Processor::plain, Processor::avx2, Processor::avx512})
    if (supported(processor)) found.push_back(processor);
  return found;
}

inline std::string processor_name(const testing::TestParamInfo<Processor>& info) {
  return kernels<float>(info.param).name;
}

// A suite of tests that runs with each table of this machine.
class TableTest : public testing::TestWithParam<Processor> {
 protected:
  TableTest() { torch::manual_seed(7); }
  template <class T = double>
  const Kernels<T>& table() const {
    return kernels<T>(GetParam());
  }
};

template <class T>
constexpr torch::ScalarType type_of() {
  return sizeof(T) == 4 ? torch::kFloat32 : torch::kFloat64;
}

template <class T>
T* data(const Tensor& x) {
  return x.defined() ? x.data_ptr<T>() : nullptr;
}

inline Tensor draw(std::vector<int64_t> shape, torch::ScalarType type = torch::kFloat64) {
  return torch::randn(shape, torch::kFloat64).to(type);
}

// Largest difference, as a share of the largest number of `expected` (at least 1e-3).
inline double difference(const Tensor& ours, const Tensor& expected) {
  if (expected.numel() == 0) return ours.numel() == 0 ? 0 : INFINITY;
  const Tensor exact = expected.to(torch::kFloat64);
  const double size = std::max(1e-3, exact.abs().max().item<double>());
  const double off = (ours.to(torch::kFloat64) - exact).abs().max().item<double>();
  return std::isnan(off) ? INFINITY : off / size;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.sizes() == y.sizes() && x.scalar_type() == y.scalar_type() &&
         std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

// y = f(inputs), gradients of <pull, y>, the tangent of y along `direction`, and the tangents of the
// gradients while the inputs move along `direction` and pull along `pull_direction`.
struct Derivatives {
  Tensor value, tangent;
  std::vector<Tensor> gradient, gradient_tangent;  // by input
};

inline Derivatives differentiate(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                                 const std::vector<Tensor>& inputs, const std::vector<Tensor>& direction,
                                 const Tensor& pull, const Tensor& pull_direction) {
  std::vector<Tensor> x;
  for (const Tensor& input : inputs) x.push_back(input.detach().clone().requires_grad_());
  const Tensor g = pull.detach().clone().requires_grad_();
  Derivatives result;
  const Tensor y = f(x);
  result.value = y.detach();
  const auto gradient = torch::autograd::grad({y}, x, {g}, true, /*create_graph=*/true);
  // <gradient, direction> = <g, J direction>: its derivative by g is the tangent of y; that by x is, with the
  // share of a moving g, the tangent of the gradient.
  Tensor along = (y * pull_direction).sum();
  for (size_t i = 0; i < x.size(); ++i) {
    result.gradient.push_back(gradient[i].detach());
    along = along + (gradient[i] * direction[i]).sum();
  }
  std::vector<Tensor> variables = x;
  variables.push_back(g);
  auto derivatives = torch::autograd::grad({along}, variables);
  result.tangent = derivatives.back();
  derivatives.pop_back();
  result.gradient_tangent = derivatives;
  return result;
}

}  // namespace pf2lora::native
