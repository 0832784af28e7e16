#include "model/prefix_cache.h"

namespace pf2lora {

torch::Tensor PrefixCache::get(int64_t example, const std::function<torch::Tensor()>& compute) {
  if (const auto found = states_.find(example); found != states_.end()) return found->second;
  torch::Tensor states = compute();
  if (const int64_t size = int64_t(states.nbytes()); bytes_ + size <= limit_) {
    bytes_ += size;
    states_.emplace(example, states);
  }
  return states;
}

}  // namespace pf2lora
