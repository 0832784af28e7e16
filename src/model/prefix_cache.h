// Keeps, for each example, the frozen states under the lowest adapter, within a memory limit. An example's
// states are always computed alone, so their bits do not depend on whether, or with what, they were kept.
#pragma once
#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <unordered_map>

namespace pf2lora {

class PrefixCache {
 public:
  explicit PrefixCache(int64_t limit_bytes) : limit_(limit_bytes) {}

  // The states of an example, computed where they are not kept, and kept where they still fit.
  torch::Tensor get(int64_t example, const std::function<torch::Tensor()>& compute);
  int64_t bytes() const { return bytes_; }

 private:
  int64_t limit_;
  int64_t bytes_ = 0;
  std::unordered_map<int64_t, torch::Tensor> states_;
};

}  // namespace pf2lora
