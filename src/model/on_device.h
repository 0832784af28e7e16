// A model that computes on an accelerator, for callers whose rows, adapters and answers are in main memory.
#pragma once
#include <memory>

#include "model/model.h"

namespace pf2lora {

// The device that --device names, for a rank with that number on its machine: ranks take the machine's GPUs
// in turn. Throws OptionError where LibTorch or the machine has none.
torch::Device find_device(const std::string& name, int64_t local_rank);

class OnDevice final : public Model {
 public:
  // `model` takes and returns tensors on its options().device().
  explicit OnDevice(std::unique_ptr<Model> model) : model_(std::move(model)) {}

  const std::vector<Site>& sites() const override { return model_->sites(); }
  std::optional<HeadShape> head() const override { return model_->head(); }
  std::optional<int64_t> feature_width() const override { return model_->feature_width(); }
  torch::TensorOptions options() const override { return model_->options().device(torch::kCPU); }
  std::optional<PromptRoom> prompt_room() const override { return model_->prompt_room(); }
  int64_t frozen_parameters() const override { return model_->frozen_parameters(); }
  std::string backend() const override { return model_->backend() + " on " + device().str(); }
  int64_t cached_bytes_per_token() const override { return model_->cached_bytes_per_token(); }

  Losses loss(const Batch& batch, const AdapterSet& adapters) const override;
  Gradient gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  AdapterSet tangent(GradientPass& pass, const AdapterSet& direction) const override;
  Output output(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  OutputLoss output_loss(const Batch& batch, const torch::Tensor& output) const override;
  AdapterSet pullback(OutputPass& pass, const torch::Tensor& cotangent) const override;
  torch::Tensor features(const Batch& batch) const override;

 private:
  torch::Device device() const { return model_->options().device(); }
  std::unique_ptr<Model> model_;
};

}  // namespace pf2lora
