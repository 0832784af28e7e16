#include "model/native_adapters.h"

#include <torch/types.h>

namespace pf2lora {
namespace {

using torch::Tensor;

template <class T>
T* row(const Tensor& x, int64_t g) {
  return x.data_ptr<T>() + g * x.stride(0);
}

// Weight and bias of each layer that the head has.
std::vector<std::pair<Tensor, Tensor>> head_layers(const AdapterSet& adapters) {
  std::vector<std::pair<Tensor, Tensor>> layers;
  if (adapters.head_dense_weight.defined())
    layers.emplace_back(adapters.head_dense_weight, adapters.head_dense_bias);
  if (adapters.head_weight.defined()) layers.emplace_back(adapters.head_weight, adapters.head_bias);
  return layers;
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
    auto& of_site = view.pairs.emplace_back();
    if (!pair.defined()) continue;
    for (int64_t g = 0; g < pair.down.size(0); ++g)
      of_site.push_back({row<T>(pair.down, g), row<T>(pair.up, g), pair.down.size(1)});
  }
  for (const auto& [weight, bias] : head_layers(adapters))
    for (int64_t g = 0; g < weight.size(0); ++g) view.heads.push_back({row<T>(weight, g), row<T>(bias, g)});
  for (const Tensor& dense : adapters.dense)
    view.dense.push_back(dense.defined() ? dense.data_ptr<T>() : nullptr);
  if (adapters.rank_weights.defined()) view.rank_weights = adapters.rank_weights.data_ptr<T>();
  return view;
}

template <class T>
native::AdapterTarget<T> target_of(AdapterSet& rows) {
  native::AdapterTarget<T> target;
  for (const LowRankPair& pair : rows.pairs) {
    auto& of_site = target.pairs.emplace_back();
    if (!pair.defined()) continue;
    for (int64_t g = 0; g < pair.down.size(0); ++g)
      of_site.push_back({row<T>(pair.down, g), row<T>(pair.up, g)});
  }
  for (const auto& [weight, bias] : head_layers(rows))
    for (int64_t g = 0; g < weight.size(0); ++g) target.heads.push_back({row<T>(weight, g), row<T>(bias, g)});
  return target;
}

template native::AdapterView<float> view_of<float>(const AdapterSet&);
template native::AdapterView<double> view_of<double>(const AdapterSet&);
template native::AdapterTarget<float> target_of<float>(AdapterSet&);
template native::AdapterTarget<double> target_of<double>(AdapterSet&);

}  // namespace pf2lora
