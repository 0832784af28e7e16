// One client holds everything: training as if there were no federation.
#include <string>

#include "core/error.h"
#include "data/partition_methods.h"

namespace pf2lora {

PartitionDraw partition_pooled(PartitionProblem& problem) {
  if (problem.clients != 1)
    throw OptionError("--partition pooled gives all examples to one client, but --clients is " +
                      std::to_string(problem.clients) + ": set --clients 1, or another --partition");
  Counts counts(1, problem.classes);
  const std::vector<int64_t> used = pooled_sizes(problem);
  for (int64_t c = 0; c < problem.classes; ++c) counts.row(0)[c] = used[c];
  return {.train = deal(counts, problem.train)};
}

}  // namespace pf2lora
