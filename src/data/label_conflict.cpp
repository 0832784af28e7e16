#include "data/label_conflict.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/text.h"
#include "data/partition_methods.h"

namespace pf2lora {
namespace {

// Which clients conflict, ascending. A larger share takes the same clients and more.
std::vector<int64_t> draw_conflicting(const Options& options, int64_t clients) {
  const int64_t count = std::llround(options.label_conflict * static_cast<double>(clients));
  if (count == 0)
    throw OptionError("--label-conflict " + format_significant(options.label_conflict, 6) + " of --clients " +
                      std::to_string(clients) + " is rounded to no client: set 0, or " +
                      format_significant(1 / static_cast<double>(clients), 6) + " or more");
  std::vector<int64_t> order(clients);
  std::iota(order.begin(), order.end(), 0);
  partition_random(options, PartitionStage::conflicting_clients).shuffle(std::span(order));
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

// A random cycle through all classes (Sattolo: An algorithm to generate a random cyclic permutation. 1986).
std::vector<int32_t> draw_cycle(KeyedRandom random, int64_t classes) {
  std::vector<int32_t> map(classes);
  std::iota(map.begin(), map.end(), 0);
  for (int64_t c = classes - 1; c > 0; --c) std::swap(map[c], map[random.below(c)]);
  return map;
}

}  // namespace

void apply_label_conflict(Partition& partition, const Examples& examples, const Options& options) {
  partition.labels.assign(examples.labels.begin(), examples.labels.end());
  if (options.label_conflict == 0) return;
  if (examples.classes < 2)
    throw OptionError("--label-conflict " + format_significant(options.label_conflict, 6) +
                      " needs two classes or more, but the dataset has one: set 0");
  const auto clients = static_cast<int64_t>(partition.clients.size());
  std::vector<int32_t> unchanged(examples.classes);
  std::iota(unchanged.begin(), unchanged.end(), 0);
  partition.label_maps.assign(clients, unchanged);
  const std::vector<int64_t> conflicting = draw_conflicting(options, clients);
  for (const int64_t k : conflicting) {
    std::vector<int32_t>& map = partition.label_maps[k];
    map = draw_cycle(partition_random(options, PartitionStage::label_map, k), examples.classes);
    const ClientExamples& own = partition.clients[k];
    for (const auto* rows : {&own.train, &own.validation, &own.test})
      for (const int64_t row : *rows) partition.labels[row] = map[examples.labels[row]];
  }
  partition.notes.push_back(
      std::to_string(conflicting.size()) + " of " + std::to_string(clients) +
      " clients read their labels through a permutation of the classes: " + shortened_list(conflicting));
}

}  // namespace pf2lora
