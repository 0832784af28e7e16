// Dirichlet label skew. With a fixed number of examples a client, every client draws its class proportions
// (as in Hsu, Qi, Brown: Measuring the effects of non-identical data distribution. 2019); without one, every
// class draws its proportions over the clients (as in Yurochkin et al.: Bayesian nonparametric federated
// learning. 2019).
#include <algorithm>

#include "core/error.h"
#include "data/partition_methods.h"

namespace pf2lora {
namespace {

// Bounds of the search for a draw that gives every client enough: draws, and variates in all of them.
constexpr int64_t kMostDraws = 100;
constexpr int64_t kMostVariates = 50'000'000;

PartitionDraw fixed_sizes(PartitionProblem& problem) {
  const Options& options = problem.options;
  const int64_t size = options.examples_per_client;
  const std::vector<double> alpha(problem.classes, options.dirichlet_alpha);
  Table<double> log_proportions(problem.clients, problem.classes);
  for (int64_t k = 0; k < problem.clients; ++k) {
    const std::vector<double> drawn =
        partition_random(options, PartitionStage::proportions, k).log_dirichlet(alpha);
    std::copy(drawn.begin(), drawn.end(), log_proportions.row(k).begin());
  }
  std::vector<int64_t> supply = problem.usable;
  const Filled filled =
      fill(log_proportions, std::vector<int64_t>(problem.clients, size), supply, problem.priority);
  if (filled.moved > 0)
    problem.notes.push_back(std::to_string(filled.moved) + " of " + std::to_string(problem.clients * size) +
                            " training examples are of another class of their client than the Dirichlet draw "
                            "asked for, since classes ran out");
  return {.train = deal(filled.counts, problem.train)};
}

// One draw of counts [clients, classes] that shares out every training row.
Counts draw_shares(const PartitionProblem& problem, int64_t attempt) {
  const std::vector<double> alpha(problem.clients, problem.options.dirichlet_alpha);
  Counts counts(problem.clients, problem.classes);
  for (int64_t c = 0; c < problem.classes; ++c) {
    KeyedRandom random = partition_random(problem.options, PartitionStage::proportions, 0, attempt, c);
    const std::vector<int64_t> shares = largest_remainder(random.dirichlet(alpha), problem.train_sizes[c]);
    for (int64_t k = 0; k < problem.clients; ++k) counts.row(k)[c] = shares[k];
  }
  return counts;
}

PartitionDraw all_shared_out(PartitionProblem& problem) {
  const Options& options = problem.options;
  const int64_t draws =
      std::clamp<int64_t>(kMostVariates / (problem.clients * problem.classes), 1, kMostDraws);
  int64_t poorest = 0;
  int64_t fewest = 0;
  for (int64_t attempt = 0; attempt < draws; ++attempt) {
    const Counts counts = draw_shares(problem, attempt);
    std::vector<int64_t> sizes;
    for (int64_t k = 0; k < problem.clients; ++k) sizes.push_back(sum(counts.row(k)));
    poorest = std::min_element(sizes.begin(), sizes.end()) - sizes.begin();
    fewest = sizes[poorest];
    if (fewest < fewest_rows(options)) continue;
    if (attempt > 0)
      problem.notes.push_back("the first " + std::to_string(attempt) +
                              " Dirichlet draws left a client below --min-examples " +
                              std::to_string(options.min_examples) + "; the next one is used");
    return {.train = deal(counts, problem.train)};
  }
  throw OptionError(
      "--partition dirichlet leaves a client below --min-examples " + std::to_string(options.min_examples) +
      (options.validation_share > 0 ? " beside its --validation-share" : "") + " in each of " +
      std::to_string(draws) + " draws (client " + std::to_string(poorest) + " has " + std::to_string(fewest) +
      " in the last): set --examples-per-client, raise --dirichlet-alpha, or lower --clients or "
      "--min-examples");
}

}  // namespace

PartitionDraw partition_dirichlet(PartitionProblem& problem) {
  return problem.options.examples_per_client > 0 ? fixed_sizes(problem) : all_shared_out(problem);
}

}  // namespace pf2lora
