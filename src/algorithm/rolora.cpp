// RoLoRA: one half of the pair is trained and averaged a round, B in odd rounds and A in even ones; the other
// half, its moments and its decay rest.
// Chen et al., Robust Federated Finetuning of LLMs via Alternating Optimization of LoRA, 2025
// (arXiv 2502.01755).
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

class RoLora final : public OneLevel {
 public:
  RoLora(const Options& options, const Problem& problem)
      : OneLevel(options, problem, Owner::common, [](const Level& level) {
          return std::vector<Share>{{level.down_block(), Owner::common},
                                    {level.up_block(), Owner::common},
                                    {level.head_block(), Owner::common}};
        }) {}

 private:
  ShareSet moving(int64_t round) const override {
    return all_shares().set(kDown, round % 2 == 0).set(kUp, round % 2 == 1);
  }
  static constexpr size_t kDown = 0, kUp = 1;
};

}  // namespace

AlgorithmRow rolora() {
  return {"rolora", "one common adapter, B trained in odd rounds and A in even ones",
          [](const Options& options, const OptionSet*, const Problem& problem) -> std::unique_ptr<Algorithm> {
            return std::make_unique<RoLora>(options, problem);
          }};
}

}  // namespace pf2lora
