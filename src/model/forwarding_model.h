// A model that hands every question on to another: the base of those that change some.
#pragma once
#include <memory>

#include "model/model.h"

namespace pf2lora {

class ForwardingModel : public Model {
 public:
  explicit ForwardingModel(std::unique_ptr<Model> model) : model_(std::move(model)) {}

  const std::vector<Site>& sites() const override { return model_->sites(); }
  std::optional<HeadShape> head() const override { return model_->head(); }
  std::optional<int64_t> feature_width() const override { return model_->feature_width(); }
  torch::TensorOptions options() const override { return model_->options(); }
  std::optional<PromptRoom> prompt_room() const override { return model_->prompt_room(); }
  int64_t frozen_parameters() const override { return model_->frozen_parameters(); }
  int64_t packed_bytes() const override { return model_->packed_bytes(); }
  void pack_weights(const FilledMemory& memory) override { model_->pack_weights(memory); }
  std::string backend() const override { return model_->backend(); }
  int64_t cached_bytes_per_token() const override { return model_->cached_bytes_per_token(); }

  Losses loss(const Batch& batch, const AdapterSet& adapters) const override {
    return model_->loss(batch, adapters);
  }
  Gradient gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const override {
    return model_->gradient(batch, adapters, keep);
  }
  AdapterSet tangent(GradientPass& pass, const AdapterSet& direction) const override {
    return model_->tangent(pass, direction);
  }
  Output output(const Batch& batch, const AdapterSet& adapters, Keep keep) const override {
    return model_->output(batch, adapters, keep);
  }
  OutputLoss output_loss(const Batch& batch, const torch::Tensor& output) const override {
    return model_->output_loss(batch, output);
  }
  AdapterSet pullback(OutputPass& pass, const torch::Tensor& cotangent) const override {
    return model_->pullback(pass, cotangent);
  }
  torch::Tensor features(const Batch& batch) const override { return model_->features(batch); }
  std::vector<std::vector<int32_t>> generate(const Batch& batch, const AdapterSet& adapters,
                                             const GenerationRules& rules) const override {
    return model_->generate(batch, adapters, rules);
  }

 protected:
  const Model& model() const { return *model_; }

 private:
  std::unique_ptr<Model> model_;
};

}  // namespace pf2lora
