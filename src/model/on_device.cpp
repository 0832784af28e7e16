#include "model/on_device.h"

#include <torch/cuda.h>
#include <torch/types.h>

#include "core/error.h"

namespace pf2lora {
namespace {

using torch::Tensor;

Tensor move(const Tensor& x, torch::Device to) {
  return x.defined() ? x.to(to) : x;
}

AdapterSet move(const AdapterSet& adapters, torch::Device to) {
  std::vector<Tensor> tensors = adapters.tensors();
  for (Tensor& tensor : tensors) tensor = move(tensor, to);
  AdapterSet moved = adapters.with_tensors(tensors);
  for (Tensor& dense : moved.dense) dense = move(dense, to);
  moved.rank_weights = move(moved.rank_weights, to);
  return moved;
}

Losses to_memory(const Losses& losses) {
  return {move(losses.loss, torch::kCPU), move(losses.predicted, torch::kCPU),
          move(losses.correct, torch::kCPU), move(losses.units, torch::kCPU)};
}

}  // namespace

torch::Device find_device(const std::string& name, int64_t local_rank) {
  if (name == "cpu") return torch::kCPU;
  if (!torch::cuda::is_available())
    throw OptionError("--device " + name +
                      (torch::hasCUDA() ? " finds no GPU on this machine"
                                        : " needs a LibTorch with CUDA, and this one has none") +
                      "; give --device cpu");
  return {torch::kCUDA, torch::DeviceIndex(local_rank % int64_t(torch::cuda::device_count()))};
}

Losses OnDevice::loss(const Batch& batch, const AdapterSet& adapters) const {
  return to_memory(model().loss(batch, move(adapters, device())));
}

Gradient OnDevice::gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  Gradient there = model().gradient(batch, move(adapters, device()), keep);
  return {move(there.loss, torch::kCPU), move(there.rows, torch::kCPU), std::move(there.pass)};
}

AdapterSet OnDevice::tangent(GradientPass& pass, const AdapterSet& direction) const {
  return move(model().tangent(pass, move(direction, device())), torch::kCPU);
}

Output OnDevice::output(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  Output there = model().output(batch, move(adapters, device()), keep);
  return {move(there.values, torch::kCPU), move(there.example, torch::kCPU), std::move(there.pass)};
}

OutputLoss OnDevice::output_loss(const Batch& batch, const Tensor& output) const {
  const OutputLoss there = model().output_loss(batch, move(output, device()));
  return {to_memory(there.examples), move(there.loss, torch::kCPU), move(there.cotangent, torch::kCPU)};
}

AdapterSet OnDevice::pullback(OutputPass& pass, const Tensor& cotangent) const {
  return move(model().pullback(pass, move(cotangent, device())), torch::kCPU);
}

Tensor OnDevice::features(const Batch& batch) const {
  return move(model().features(batch), torch::kCPU);
}

std::vector<std::vector<int32_t>> OnDevice::generate(const Batch& batch, const AdapterSet& adapters,
                                                     const GenerationRules& rules) const {
  return model().generate(batch, move(adapters, device()), rules);
}

}  // namespace pf2lora
