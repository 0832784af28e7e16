// Label skew by shards: the training rows are put in the order of their labels and cut into contiguous
// shards, and every client gets --shards-per-client of them at random (McMahan et al.:
// Communication-efficient learning of deep networks from decentralized data. 2017, section 3: 200 shards for
// 100 clients).
#include <span>

#include "core/error.h"
#include "data/partition_methods.h"

namespace pf2lora {
namespace {

struct Shard {
  int64_t client;
  int64_t size;
};

// All clients' shards in a keyed order. Clients differ by at most one example, and so do a client's shards.
std::vector<Shard> shuffled_shards(const PartitionProblem& problem, int64_t total) {
  const int64_t shards = problem.options.shards_per_client;
  if (shards > total / problem.clients)
    throw OptionError(
        "--shards-per-client " + std::to_string(shards) + " is more than the " +
        std::to_string(total / problem.clients) +
        " training examples of a client: lower it or --clients, or raise --examples-per-client");
  std::vector<Shard> result;
  for (int64_t i = 0; i < problem.clients; ++i) {
    const int64_t size = total / problem.clients + (i < total % problem.clients);
    for (int64_t s = 0; s < shards; ++s)
      result.push_back({problem.priority[i], size / shards + (s < size % shards)});
  }
  partition_random(problem.options, PartitionStage::shards).shuffle(std::span(result));
  return result;
}

}  // namespace

PartitionDraw partition_shards(PartitionProblem& problem) {
  const std::vector<int64_t> used = pooled_sizes(problem);
  int64_t total = 0;
  for (const int64_t size : used) total += size;
  Counts counts(problem.clients, problem.classes);
  int64_t c = 0;
  int64_t left = used[0];  // of class c, in the order of the labels
  for (const Shard& shard : shuffled_shards(problem, total))
    for (int64_t i = 0; i < shard.size; ++i, --left) {
      while (left == 0) left = used[++c];
      ++counts.row(shard.client)[c];
    }
  return {.train = deal(counts, problem.train)};
}

}  // namespace pf2lora
