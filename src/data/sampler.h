// Who takes part in a round and which examples a step sees: keyed draws, the same on every rank.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/random.h"

namespace pf2lora {

// `batch_size` different entries of `rows`, in the order of `rows`; all of them when there are no more. Draws
// of different keys are independent.
std::vector<int64_t> draw_batch(uint64_t seed, Purpose purpose, int64_t client, int64_t round, int64_t step,
                                int64_t slot, std::span<const int64_t> rows, int64_t batch_size);

// Ascending numbers of the clients of a round, drawn from [0, trainable_clients) without replacement;
// clients_per_round 0 means all. OptionError when more are asked for than there are.
std::vector<int64_t> draw_cohort(uint64_t seed, int64_t round, int64_t trainable_clients,
                                 int64_t clients_per_round);

}  // namespace pf2lora
