#include "model/native_adapters.h"

#include <torch/torch.h>

namespace pf2lora {
namespace {

using torch::Tensor;

template <class T>
T* row(const Tensor& x, int64_t g) {
  return x.data_ptr<T>() + g * x.stride(0);
}

}  // namespace

AdapterSet contiguous(const AdapterSet& adapters) {
  std::vector<Tensor> tensors = adapters.tensors();
  for (Tensor& tensor : tensors) tensor = tensor.contiguous();
  AdapterSet same = adapters.with_tensors(tensors);
  for (Tensor& dense : same.dense)
    if (dense.defined()) dense = dense.contiguous();
  if (same.rank_weights.defined()) same.rank_weights = same.rank_weights.contiguous();
  return same;
}

AdapterSet empty_like(const AdapterSet& adapters) {
  std::vector<Tensor> tensors = adapters.tensors();
  for (Tensor& tensor : tensors) tensor = torch::empty_like(tensor);
  return adapters.with_tensors(tensors);
}

template <class T>
native::AdapterView<T> view_of(const AdapterSet& adapters) {
  native::AdapterView<T> view;
  for (const LowRankPair& pair : adapters.pairs) {
    auto& clients = view.pairs.emplace_back();
    for (int64_t g = 0; g < adapters.head_weight.size(0); ++g)
      clients.push_back(pair.defined()
                            ? native::PairView<T>{row<T>(pair.down, g), row<T>(pair.up, g), pair.down.size(1)}
                            : native::PairView<T>{});
  }
  for (int64_t g = 0; g < adapters.head_weight.size(0); ++g)
    view.heads.push_back({row<T>(adapters.head_weight, g), row<T>(adapters.head_bias, g)});
  for (const Tensor& dense : adapters.dense)
    view.dense.push_back(dense.defined() ? dense.data_ptr<T>() : nullptr);
  if (adapters.rank_weights.defined()) view.rank_weights = adapters.rank_weights.data_ptr<T>();
  return view;
}

template <class T>
native::AdapterTarget<T> target_of(AdapterSet& rows) {
  native::AdapterTarget<T> target;
  for (const LowRankPair& pair : rows.pairs) {
    auto& clients = target.pairs.emplace_back();
    for (int64_t g = 0; g < rows.head_weight.size(0); ++g)
      clients.push_back(pair.defined() ? native::PairTarget<T>{row<T>(pair.down, g), row<T>(pair.up, g)}
                                       : native::PairTarget<T>{});
  }
  for (int64_t g = 0; g < rows.head_weight.size(0); ++g)
    target.heads.push_back({row<T>(rows.head_weight, g), row<T>(rows.head_bias, g)});
  return target;
}

template native::AdapterView<float> view_of<float>(const AdapterSet&);
template native::AdapterView<double> view_of<double>(const AdapterSet&);
template native::AdapterTarget<float> target_of<float>(AdapterSet&);
template native::AdapterTarget<double> target_of<double>(AdapterSet&);

}  // namespace pf2lora
