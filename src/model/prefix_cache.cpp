#include "model/prefix_cache.h"

namespace pf2lora {

std::vector<torch::Tensor> PrefixCache::get(std::span<const int64_t> examples, const Compute& compute) {
  std::vector<torch::Tensor> states(examples.size());
  std::vector<size_t> missing;
  for (size_t i = 0; i < examples.size(); ++i) {
    if (const auto found = states_.find(examples[i]); found != states_.end())
      states[i] = found->second;
    else
      missing.push_back(i);
  }
  if (missing.empty()) return states;
  const std::vector<torch::Tensor> computed = compute(missing);
  for (size_t i = 0; i < missing.size(); ++i) {
    states[missing[i]] = computed[i];
    const int64_t size = int64_t(computed[i].nbytes());
    if (bytes_ + size <= limit_ && states_.emplace(examples[missing[i]], computed[i]).second) bytes_ += size;
  }
  return states;
}

}  // namespace pf2lora
