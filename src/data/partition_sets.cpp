#include "data/partition_sets.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace pf2lora {
namespace {

// How many test (or validation) rows each client should have out of `available`.
std::vector<int64_t> target_sizes(const Options& options, const Counts& train, int64_t asked,
                                  int64_t available) {
  if (asked > 0) return std::vector<int64_t>(train.clients(), asked);
  if (options.examples_per_client > 0)
    return std::vector<int64_t>(train.clients(), available / train.clients());
  std::vector<int64_t> held;
  for (int64_t k = 0; k < train.clients(); ++k) held.push_back(sum(train.row(k)));
  const double part = static_cast<double>(available) / static_cast<double>(sum(held));
  std::vector<int64_t> targets;
  for (const int64_t own : held)
    targets.push_back(std::max<int64_t>(1, std::llround(part * static_cast<double>(own))));
  return targets;
}

}  // namespace

std::vector<std::vector<int64_t>> share_in_proportion(PartitionProblem& problem, const Counts& train,
                                                      const RowsByClass& rows, int64_t asked,
                                                      const std::string& kind) {
  std::vector<int64_t> supply = sizes(rows);
  if (problem.clients == 1 && asked == 0) {
    Counts all(1, problem.classes);
    std::copy(supply.begin(), supply.end(), all.row(0).begin());
    return deal(all, rows);
  }
  int64_t without = 0;  // training rows of classes that have no such rows
  for (int64_t k = 0; k < problem.clients; ++k)
    for (int64_t c = 0; c < problem.classes; ++c)
      if (supply[c] == 0) without += train.row(k)[c];
  if (without > 0)
    problem.notes.push_back(std::to_string(without) + " training examples are of classes without " + kind +
                            " rows; the proportions of the " + kind + " sets leave those classes out");
  const int64_t available = sum(supply);
  const std::vector<int64_t> targets = target_sizes(problem.options, train, asked, available);
  const Filled filled = fill_in_proportion(train, targets, supply, problem.priority);

  int64_t smaller = 0;
  int64_t largest_loss = 0;
  int64_t poorest = 0;
  for (int64_t k = 0; k < problem.clients; ++k) {
    // A row or two are lost to rounding where everything is shared out.
    if (filled.missing[k] > (asked > 0 ? 0 : problem.classes)) ++smaller;
    if (filled.missing[k] > largest_loss) {
      largest_loss = filled.missing[k];
      poorest = k;
    }
  }
  if (smaller > 0)
    problem.notes.push_back(kind + " sets smaller than their share for " + std::to_string(smaller) + " of " +
                            std::to_string(problem.clients) + " clients, whose classes have too few " + kind +
                            " rows (client " + std::to_string(poorest) + ": " +
                            std::to_string(targets[poorest] - largest_loss) + " instead of " +
                            std::to_string(targets[poorest]) +
                            "); --examples-per-client with --test-examples-per-client fits both");
  if (filled.moved > 0)
    problem.notes.push_back(std::to_string(filled.moved) + " " + kind +
                            " rows are of another class of their client than "
                            "its training proportions ask for, since classes ran out; at most " +
                            std::to_string(std::llround(100 * kProportionTolerance)) +
                            "% of a set but for rounding");
  return deal(filled.counts, rows);
}

void set_validation_aside(ClientExamples& client, int64_t number, const Examples& examples,
                          const Options& options) {
  const auto size = static_cast<int64_t>(client.train.size());
  if (size < 2)
    throw OptionError("client " + std::to_string(number) + " has " + std::to_string(size) +
                      " training examples, too few to set one aside for --validation-share: lower --clients, "
                      "raise --examples-per-client, or set --validation-share 0");
  std::vector<int64_t> take = largest_remainder(class_counts(client.train, examples.labels, examples.classes),
                                                validation_size(options, size));
  KeyedRandom(static_cast<uint64_t>(options.seed), Purpose::validation, number)
      .shuffle(std::span(client.train));
  std::vector<int64_t> kept;
  for (const int64_t row : client.train) {
    int64_t& open = take[examples.labels[row]];
    (open > 0 ? client.validation : kept).push_back(row);
    if (open > 0) --open;
  }
  client.train = std::move(kept);
}

}  // namespace pf2lora
