// Label skew by sorting: a part s = --label-sort of every class is handed out in the order of the labels, the
// rest from a shuffled pool; every client takes a contiguous slice of both (Karimireddy et al.: SCAFFOLD.
// 2020, s % similarity). s = 0 is iid but for chance, s = 1 gives each client one or two labels.
#include <cmath>
#include <span>

#include "data/partition_methods.h"

namespace pf2lora {

PartitionDraw partition_label_sort(PartitionProblem& problem) {
  const std::vector<int64_t> used = pooled_sizes(problem);
  std::vector<int64_t> pool;  // labels, one entry an example
  std::vector<int64_t> sorted;
  for (int64_t c = 0; c < problem.classes; ++c) {
    const auto shuffled =
        static_cast<int64_t>(std::llround((1 - problem.options.label_sort) * static_cast<double>(used[c])));
    pool.insert(pool.end(), shuffled, c);
    sorted.insert(sorted.end(), used[c] - shuffled, c);
  }
  partition_random(problem.options, PartitionStage::pool).shuffle(std::span(pool));

  const auto pool_size = static_cast<int64_t>(pool.size());
  const auto total = pool_size + static_cast<int64_t>(sorted.size());
  Counts counts(problem.clients, problem.classes);
  int64_t pool_taken = 0;
  int64_t sorted_taken = 0;
  for (int64_t k = 0; k < problem.clients; ++k) {
    // Both slices end so that clients 0 .. k together hold their equal part of the whole.
    const int64_t pool_end = pool_size * (k + 1) / problem.clients;
    const int64_t sorted_end = total * (k + 1) / problem.clients - pool_end;
    for (; pool_taken < pool_end; ++pool_taken) ++counts.row(k)[pool[pool_taken]];
    for (; sorted_taken < sorted_end; ++sorted_taken) ++counts.row(k)[sorted[sorted_taken]];
  }
  return {.train = deal(counts, problem.train)};
}

}  // namespace pf2lora
