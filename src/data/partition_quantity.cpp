// Quantity skew: the clients' sizes are drawn from a Dirichlet distribution, their classes are alike (Li,
// Diao, Chen, He: Federated learning on non-IID data silos: an experimental study. 2022, section IV C, q ~
// Dir(beta)). With --examples-per-client that is the mean size.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/partition_methods.h"

namespace pf2lora {
namespace {

struct Floored {
  std::vector<int64_t> sizes;
  int64_t raised = 0;  // clients that had less than the floor
};

// Whole numbers that sum to `total`, in proportions exp(log_weights) but for those that would be below
// `floor`: they get that, and the others less in proportion. clients x floor <= total.
Floored sizes_from(const std::vector<double>& log_weights, int64_t total, int64_t floor) {
  const auto clients = static_cast<int64_t>(log_weights.size());
  const double largest = *std::max_element(log_weights.begin(), log_weights.end());
  std::vector<double> weights;
  for (const double log_weight : log_weights) weights.push_back(std::exp(log_weight - largest));
  std::vector<int64_t> ascending(clients);
  std::iota(ascending.begin(), ascending.end(), 0);
  std::stable_sort(ascending.begin(), ascending.end(),
                   [&](int64_t a, int64_t b) { return weights[a] < weights[b]; });
  std::vector<double> from_here(clients + 1);  // sum of the weights of ascending[i] and those after it
  for (int64_t i = clients; i-- > 0;) from_here[i] = from_here[i + 1] + weights[ascending[i]];

  Floored result{.sizes = std::vector<int64_t>(clients, floor)};
  int64_t left = total;
  int64_t i = 0;
  for (; i + 1 < clients; ++i, left -= floor)
    if (weights[ascending[i]] / from_here[i] * static_cast<double>(left) >= static_cast<double>(floor)) break;
  result.raised = i;
  std::vector<double> rest;
  for (int64_t j = i; j < clients; ++j) rest.push_back(weights[ascending[j]]);
  const std::vector<int64_t> sizes = largest_remainder(rest, left);
  for (int64_t j = i; j < clients; ++j) result.sizes[ascending[j]] = sizes[j - i];
  return result;
}

// Clients in the order in which they take an example, sizes[k] times each, evenly over the whole: the i-th
// turn of a client is at (i + u) / size, with u uniform in [0, 1) for each client (systematic sampling).
// Handing out the examples class by class in this order gives everyone the same proportions up to rounding.
std::vector<int64_t> turns(const PartitionProblem& problem, const std::vector<int64_t>& sizes) {
  std::vector<std::pair<double, int64_t>> turns;
  for (int64_t k = 0; k < problem.clients; ++k) {
    const double start = partition_random(problem.options, PartitionStage::turns, k).uniform();
    for (int64_t i = 0; i < sizes[k]; ++i)
      turns.emplace_back((static_cast<double>(i) + start) / static_cast<double>(sizes[k]), k);
  }
  std::sort(turns.begin(), turns.end());
  std::vector<int64_t> clients;
  for (const auto& [at, client] : turns) clients.push_back(client);
  return clients;
}

}  // namespace

PartitionDraw partition_quantity(PartitionProblem& problem) {
  const Options& options = problem.options;
  const std::vector<int64_t> used = pooled_sizes(problem);
  const int64_t floor = fewest_rows(options);
  const std::vector<double> alpha(problem.clients, options.quantity_alpha);
  const Floored drawn =
      sizes_from(partition_random(options, PartitionStage::sizes).log_dirichlet(alpha), sum(used), floor);
  if (drawn.raised > 0)
    problem.notes.push_back(std::to_string(drawn.raised) + " of " + std::to_string(problem.clients) +
                            " clients drew fewer training examples than --min-examples asks for and get " +
                            std::to_string(floor) + "; the others have less in proportion");
  Counts counts(problem.clients, problem.classes);
  const std::vector<int64_t> order = turns(problem, drawn.sizes);
  auto next = order.begin();
  for (int64_t c = 0; c < problem.classes; ++c)
    for (int64_t i = 0; i < used[c]; ++i) ++counts.row(*next++)[c];
  return {.train = deal(counts, problem.train)};
}

}  // namespace pf2lora
