// Equal shares: every class is dealt out like cards, so clients differ by at most one example, in a class and
// in all.
#include "data/partition_methods.h"

namespace pf2lora {

PartitionDraw partition_iid(PartitionProblem& problem) {
  const std::vector<int64_t> used = pooled_sizes(problem);
  Counts counts(problem.clients, problem.classes);
  int64_t turn = 0;
  for (int64_t c = 0; c < problem.classes; ++c)
    for (int64_t i = 0; i < used[c]; ++i, ++turn) ++counts.row(problem.priority[turn % problem.clients])[c];
  return {.train = deal(counts, problem.train)};
}

}  // namespace pf2lora
