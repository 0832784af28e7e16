// Centralised training: HOMLoRA with one client, number 0, that holds the training examples of all. It takes
// as many local steps of one batch a round as one client does elsewhere, and is evaluated on every client's
// test set.
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {

AlgorithmRow centralized() {
  return {.name = "centralized",
          .description = "one adapter on the examples of all clients together",
          .make = [](const Options& options, const OptionSet*,
                     const Problem& problem) -> std::unique_ptr<Algorithm> {
            return std::make_unique<OneLevel>(options, problem, Owner::common);
          },
          .demands = {.pool = TrainingPool::all_as_one}};
}

}  // namespace pf2lora
