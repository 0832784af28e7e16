// FedPer-LoRA: adapters common and averaged, the head each client's own; HOMLoRA with --head personal.
// Arivazhagan et al., Federated Learning with Personalization Layers, 2019 (arXiv 1912.00818).
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {

AlgorithmRow fedper() {
  return {"fedper", "adapters common and averaged, the head each client's own",
          [](const Options& options, const OptionSet*, const Problem& problem) -> std::unique_ptr<Algorithm> {
            Options personal = options;
            personal.head = "personal";
            return std::make_unique<OneLevel>(personal, problem, Owner::common);
          }};
}

}  // namespace pf2lora
