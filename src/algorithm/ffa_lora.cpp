// FFA-LoRA: A is frozen at its common start value and B alone is trained and averaged, so that the average of
// the products is the product of the averages.
// Sun et al., Improving LoRA in Privacy-preserving Federated Learning, ICLR 2024 (arXiv 2403.12313).
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

class FfaLora final : public OneLevel {
 public:
  FfaLora(const Options& options, const Problem& problem)
      : OneLevel(options, problem, Owner::common, [](const Level& level) {
          const Block frozen = level.down_block();
          return std::vector<Share>{{frozen, Owner::common, /*trained=*/false},
                                    {{frozen.size, level.size() - frozen.size}, Owner::common}};
        }) {}
};

}  // namespace

AlgorithmRow ffa_lora() {
  return {"ffa-lora", "A frozen at its start value, B common and averaged",
          [](const Options& options, const OptionSet*, const Problem& problem) -> std::unique_ptr<Algorithm> {
            return std::make_unique<FfaLora>(options, problem);
          }};
}

}  // namespace pf2lora
