// Local-only training: every client trains an adapter and a head of its own and never communicates.
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {

AlgorithmRow local() {
  return {"local", "an adapter a client, no communication",
          [](const Options& options, const OptionSet*, const Problem& problem) -> std::unique_ptr<Algorithm> {
            return std::make_unique<OneLevel>(options, problem, Owner::client);
          }};
}

}  // namespace pf2lora
