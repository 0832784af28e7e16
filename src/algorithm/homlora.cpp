// HOMLoRA: one common adapter of equal rank for all, trained by FedAvg with uniform weights.
// McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS 2017;
// the name is that of Cho et al., Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation
// Models, EMNLP 2024.
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {

AlgorithmRow homlora() {
  return {"homlora", "one common adapter, averaged uniformly (FedAvg)",
          [](const Options& options, const OptionSet*, const Problem& problem) -> std::unique_ptr<Algorithm> {
            return std::make_unique<OneLevel>(options, problem, Owner::common);
          }};
}

}  // namespace pf2lora
