#include "data/sampler.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

#include "core/error.h"

namespace pf2lora {

std::vector<int64_t> draw_batch(uint64_t seed, Purpose purpose, int64_t client, int64_t round, int64_t step,
                                int64_t slot, std::span<const int64_t> rows, int64_t batch_size) {
  if (batch_size < 1)
    throw std::invalid_argument("a batch of " + std::to_string(batch_size) + " examples cannot be drawn");
  const auto available = static_cast<int64_t>(rows.size());
  if (available <= batch_size) return {rows.begin(), rows.end()};
  KeyedRandom random(seed, purpose, client, round, step, slot);
  std::vector<int64_t> batch = random.sample_without_replacement(available, batch_size);
  std::sort(batch.begin(), batch.end());
  for (int64_t& entry : batch) entry = rows[entry];
  return batch;
}

std::vector<int64_t> draw_cohort(uint64_t seed, int64_t round, int64_t trainable_clients,
                                 int64_t clients_per_round) {
  if (clients_per_round > trainable_clients)
    throw OptionError("--clients-per-round " + std::to_string(clients_per_round) + " is more than the " +
                      std::to_string(trainable_clients) +
                      " clients that train: lower it, or raise --clients or lower --held-out-clients");
  if (clients_per_round == 0 || clients_per_round == trainable_clients) {
    std::vector<int64_t> all(trainable_clients);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  KeyedRandom random(seed, Purpose::cohort, 0, round);
  std::vector<int64_t> cohort = random.sample_without_replacement(trainable_clients, clients_per_round);
  std::sort(cohort.begin(), cohort.end());
  return cohort;
}

}  // namespace pf2lora
