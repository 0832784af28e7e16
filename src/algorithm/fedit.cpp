// FedIT: HOMLoRA with weights proportional to each client's number of examples.
// Zhang et al., Towards Building the FederatedGPT: Federated Instruction Tuning, ICASSP 2024.
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

class FedIt final : public OneLevel {
 public:
  FedIt(const Options& options, const Problem& problem) : OneLevel(options, problem, Owner::common) {}

 protected:
  double weight(int64_t client) const override { return double(problem_.train_examples(client)); }
};

}  // namespace

AlgorithmRow fedit() {
  return {"fedit", "one common adapter, averaged by numbers of examples",
          [](const Options& options, const OptionSet*, const Problem& problem) -> std::unique_ptr<Algorithm> {
            return std::make_unique<FedIt>(options, problem);
          }};
}

}  // namespace pf2lora
