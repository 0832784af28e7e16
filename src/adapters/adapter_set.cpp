#include "adapters/adapter_set.h"

namespace pf2lora {
namespace {

template <class Set, class Visit>
void for_each_tensor(Set& set, Visit visit) {
  for (auto& pair : set.pairs) {
    if (!pair.defined()) continue;
    visit(pair.down);
    visit(pair.up);
  }
  if (set.prompt.defined()) visit(set.prompt);
  for (auto& prefix : set.prefix) {
    if (!prefix.defined()) continue;
    visit(prefix.key);
    visit(prefix.value);
  }
  for (auto* tensor : {&set.head_dense_weight, &set.head_dense_bias, &set.head_weight, &set.head_bias})
    if (tensor->defined()) visit(*tensor);
}

}  // namespace

std::vector<torch::Tensor> AdapterSet::tensors() const {
  std::vector<torch::Tensor> all;
  for_each_tensor(*this, [&](const torch::Tensor& tensor) { all.push_back(tensor); });
  return all;
}

AdapterSet AdapterSet::with_tensors(const std::vector<torch::Tensor>& replacements) const {
  AdapterSet result = *this;
  auto next = replacements.begin();
  for_each_tensor(result, [&](torch::Tensor& tensor) { tensor = *next++; });
  return result;
}

}  // namespace pf2lora
