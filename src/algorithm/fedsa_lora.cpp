// FedSA-LoRA: A and B are trained, A is averaged and each B stays with its client.
// Guo et al., Selective Aggregation for Low-Rank Adaptation in Federated Learning, ICLR 2025
// (arXiv 2410.01463).
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

class FedSaLora final : public OneLevel {
 public:
  FedSaLora(const Options& options, const Problem& problem)
      : OneLevel(options, problem, Owner::client, [&options](const Level& level) {
          const Owner head = options.head == "personal" ? Owner::client : Owner::common;
          return std::vector<Share>{{level.down_block(), Owner::common},
                                    {level.up_block(), Owner::client},
                                    {level.head_block(), head}};
        }) {}
};

}  // namespace

AlgorithmRow fedsa_lora() {
  return {"fedsa-lora", "A common and averaged, B each client's own",
          [](const Options& options, const OptionSet*, const Problem& problem) -> std::unique_ptr<Algorithm> {
            return std::make_unique<FedSaLora>(options, problem);
          }};
}

}  // namespace pf2lora
