#include "data/partition_figures.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "data/apportion.h"

namespace pf2lora {
namespace {

double entropy_term(double share) {
  return share > 0 ? -share * std::log(share) : 0;
}

}  // namespace

double label_entropy(std::span<const int64_t> counts) {
  const auto total = static_cast<double>(sum(counts));
  double entropy = 0;
  if (total == 0) return entropy;
  for (const int64_t count : counts) entropy += entropy_term(static_cast<double>(count) / total);
  return entropy;
}

double label_distance(std::span<const int64_t> a, std::span<const int64_t> b) {
  const auto a_total = static_cast<double>(sum(a)), b_total = static_cast<double>(sum(b));
  if (a_total == 0 || b_total == 0) return std::numeric_limits<double>::quiet_NaN();
  double of_mixture = 0;  // entropy
  for (std::size_t c = 0; c < a.size(); ++c)
    of_mixture +=
        entropy_term((static_cast<double>(a[c]) / a_total + static_cast<double>(b[c]) / b_total) / 2);
  const double divergence = of_mixture - (label_entropy(a) + label_entropy(b)) / 2;
  // Rounding can make it negative where the two are alike.
  return std::sqrt(std::max(divergence, 0.0) / std::numbers::ln2);
}

PartitionFigures partition_figures(const Partition& partition, int64_t classes) {
  PartitionFigures figures;
  std::vector<std::vector<int64_t>> counts;
  std::vector<int64_t> all(classes);
  for (std::size_t k = 0; k < partition.clients.size(); ++k) {
    const ClientExamples& own = partition.clients[k];
    counts.push_back(class_counts(own.train, partition.labels, classes));
    for (int64_t c = 0; c < classes; ++c) all[c] += counts[k][c];
    ClientFigures client;
    client.train = static_cast<int64_t>(own.train.size());
    client.validation = static_cast<int64_t>(own.validation.size());
    client.test = static_cast<int64_t>(own.test.size());
    client.classes = classes - std::count(counts[k].begin(), counts[k].end(), int64_t{0});
    client.label_entropy = label_entropy(counts[k]);
    client.majority = static_cast<double>(*std::max_element(counts[k].begin(), counts[k].end())) /
                      static_cast<double>(own.train.size());
    if (!partition.label_maps.empty())
      client.permuted = !std::is_sorted(partition.label_maps[k].begin(), partition.label_maps[k].end());
    figures.clients.push_back(client);
  }
  for (const std::vector<int64_t>& own : counts)
    figures.mean_label_distance += label_distance(own, all) / static_cast<double>(counts.size());
  return figures;
}

}  // namespace pf2lora
