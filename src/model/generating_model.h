// A model that generates text, whatever computes its other answers.
#pragma once
#include "model/forwarding_model.h"
#include "model/generator.h"

namespace pf2lora {

class GeneratingModel final : public ForwardingModel {
 public:
  // `weights`, those of the model, are kept: a copy of them shares their memory. Throws as Generator does.
  GeneratingModel(std::unique_ptr<Model> model, TransformerWeights weights)
      : ForwardingModel(std::move(model)),
        weights_(std::move(weights)),
        generator_(weights_, ForwardingModel::sites()) {}

  std::vector<std::vector<int32_t>> generate(const Batch& batch, const AdapterSet& adapters,
                                             const GenerationRules& rules) const override {
    return generator_.generate(take_prompts(batch), adapters, rules);
  }

 private:
  const TransformerWeights weights_;
  const Generator generator_;
};

}  // namespace pf2lora
