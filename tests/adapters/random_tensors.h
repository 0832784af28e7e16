// Tensors of tests: random ones in double from a seed, whole numbers, and distances between tensors.
#pragma once
#include <torch/types.h>

#include <vector>

namespace pf2lora {

class RandomTensors {
 public:
  explicit RandomTensors(uint64_t seed) : generator_(at::detail::createCPUGenerator(seed)) {}

  torch::Tensor normal(const std::vector<int64_t>& shape, double deviation = 1) {
    return deviation * torch::randn(shape, generator_, torch::kFloat64);
  }
  int64_t below(int64_t n) { return torch::randint(n, {1}, generator_, torch::kInt64).item<int64_t>(); }
  // [size, count], orthonormal.
  torch::Tensor orthonormal_columns(int64_t size, int64_t count) {
    return std::get<0>(torch::linalg_qr(normal({size, count}), "reduced"));
  }

 private:
  torch::Generator generator_;
};

inline torch::Tensor integers(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kInt64);
}

inline double inner_product(const torch::Tensor& a, const torch::Tensor& b) {
  return (a * b).sum().item<double>();
}

// ||a - b|| / ||b||
inline double relative_error(const torch::Tensor& a, const torch::Tensor& b) {
  const auto reference = b.to(torch::kFloat64);
  return ((a.to(torch::kFloat64) - reference).norm() / reference.norm()).item<double>();
}

inline double largest_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
}

}  // namespace pf2lora
