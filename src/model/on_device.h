// A model that computes on an accelerator, for callers whose rows, adapters and answers are in main memory.
#pragma once
#include "model/forwarding_model.h"

namespace pf2lora {

// The device that --device names, for a rank with that number on its machine: ranks take the machine's GPUs
// in turn. Throws OptionError where LibTorch or the machine has none.
torch::Device find_device(const std::string& name, int64_t local_rank);

class OnDevice final : public ForwardingModel {
 public:
  // `model` takes and returns tensors on its options().device().
  explicit OnDevice(std::unique_ptr<Model> model) : ForwardingModel(std::move(model)) {}

  torch::TensorOptions options() const override { return model().options().device(torch::kCPU); }
  std::string backend() const override { return model().backend() + " on " + device().str(); }

  Losses loss(const Batch& batch, const AdapterSet& adapters) const override;
  Gradient gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  AdapterSet tangent(GradientPass& pass, const AdapterSet& direction) const override;
  Output output(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  OutputLoss output_loss(const Batch& batch, const torch::Tensor& output) const override;
  AdapterSet pullback(OutputPass& pass, const torch::Tensor& cotangent) const override;
  torch::Tensor features(const Batch& batch) const override;
  std::vector<std::vector<int32_t>> generate(const Batch& batch, const AdapterSet& adapters,
                                             const GenerationRules& rules) const override;

 private:
  torch::Device device() const { return model().options().device(); }
};

}  // namespace pf2lora
