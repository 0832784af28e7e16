// Keeps, for each example, the frozen states under the lowest adapter, within a memory limit. The model must
// compute an example's states with the same bits whatever examples it computes with it.
#pragma once
#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

namespace pf2lora {

class PrefixCache {
 public:
  explicit PrefixCache(int64_t limit_bytes) : limit_(limit_bytes) {}

  // The states of those examples; `compute` is asked at most once, for the places in `examples` of those that
  // are not kept, which are then kept where they still fit.
  using Compute = std::function<std::vector<torch::Tensor>(const std::vector<size_t>& places)>;
  std::vector<torch::Tensor> get(std::span<const int64_t> examples, const Compute& compute);
  int64_t bytes() const { return bytes_; }

 private:
  int64_t limit_;
  int64_t bytes_ = 0;
  std::unordered_map<int64_t, torch::Tensor> states_;
};

}  // namespace pf2lora
