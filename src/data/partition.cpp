#include "data/partition.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"
#include "data/partition_methods.h"

namespace pf2lora {
namespace {

struct PartitionMethod {
  std::string_view name;
  std::string_view description;
  PartitionDraw (*make)(PartitionProblem& problem);
};

constexpr std::array kMethods = {
    PartitionMethod{"dirichlet", "class proportions drawn from a Dirichlet distribution",
                    partition_dirichlet},
    PartitionMethod{"label-sort", "a part of each class handed out in the order of the labels",
                    partition_label_sort},
    PartitionMethod{"iid", "equal shares of every class", partition_iid},
    PartitionMethod{"pooled", "one client holds everything", partition_pooled},
};

constexpr int8_t kTrain = 0;
constexpr int8_t kValidation = 1;
constexpr int8_t kTest = 2;

int64_t sum(std::span<const int64_t> values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

std::string text(int64_t number) {
  return std::to_string(number);
}

const PartitionMethod& find_method(const std::string& name) {
  std::string known;
  for (const PartitionMethod& method : kMethods) {
    if (method.name == name) return method;
    known += (known.empty() ? "" : ", ") + std::string(method.name);
  }
  throw OptionError("option partition: '" + name + "' is not known; it must be one of " + known);
}

void check_columns(const Examples& examples) {
  if (examples.labels.size() != examples.split.size())
    throw InputError("the dataset has " + std::to_string(examples.labels.size()) + " labels but " +
                     std::to_string(examples.split.size()) + " split entries: prepare it again");
  if (examples.classes < 1)
    throw InputError("the dataset has " + text(examples.classes) + " classes: prepare it again with labels");
  for (std::size_t i = 0; i < examples.labels.size(); ++i) {
    if (examples.labels[i] < 0 || examples.labels[i] >= examples.classes)
      throw InputError("row " + std::to_string(i) + " of the dataset has label " + text(examples.labels[i]) +
                       ", outside its " + text(examples.classes) + " classes: prepare it again");
    if (examples.split[i] < kTrain || examples.split[i] > kTest)
      throw InputError("row " + std::to_string(i) + " of the dataset has split " + text(examples.split[i]) +
                       ", not 0 (train), 1 (validation) or 2 (test): prepare it again");
  }
}

RowsByClass rows_by_class(const Examples& examples, int8_t split, const Options& options,
                          PartitionStage stage) {
  RowsByClass rows(examples.classes);
  for (std::size_t i = 0; i < examples.labels.size(); ++i)
    if (examples.split[i] == split) rows[examples.labels[i]].push_back(static_cast<int64_t>(i));
  for (int64_t c = 0; c < examples.classes; ++c)
    partition_random(options, stage, 0, 0, c).shuffle(std::span(rows[c]));
  return rows;
}

std::vector<int64_t> sizes(const RowsByClass& rows) {
  std::vector<int64_t> result;
  for (const std::vector<int64_t>& own : rows) result.push_back(static_cast<int64_t>(own.size()));
  return result;
}

// Throws for what no way of sharing out could meet.
void check_totals(const Options& options, int64_t train, int64_t test) {
  if (train == 0) throw InputError("the dataset has no training rows: prepare it again with a train split");
  if (test == 0) throw InputError("the dataset has no test rows: prepare it again with a test split");
  const int64_t clients = options.clients;
  if (clients < 1) throw OptionError("--clients " + text(clients) + " is too few: set 1 or more");
  if (clients > train)
    throw OptionError("--clients " + text(clients) + " is more than the " + text(train) +
                      " training examples of the dataset: lower --clients");
  if (clients > test)
    throw OptionError("--clients " + text(clients) + " is more than the " + text(test) +
                      " test examples of the dataset, and every client needs one: lower --clients");
  const int64_t size = options.examples_per_client;
  if (size > 0 && size < options.min_examples)
    throw OptionError("--examples-per-client " + text(size) + " is below --min-examples " +
                      text(options.min_examples) + ": raise the first or lower the second");
  if (size > train / clients)
    throw OptionError("--clients " + text(clients) + " with --examples-per-client " + text(size) +
                      " need more than the " + text(train) +
                      " training examples of the dataset: lower one of them (at most " +
                      text(train / clients) + " examples a client)");
  if (options.min_examples > train / clients)
    throw OptionError("--min-examples " + text(options.min_examples) + " for --clients " + text(clients) +
                      " need more than the " + text(train) +
                      " training examples of the dataset: lower one of them");
  if (options.test_examples_per_client > test / clients)
    throw OptionError("--clients " + text(clients) + " with --test-examples-per-client " +
                      text(options.test_examples_per_client) + " need more than the " + text(test) +
                      " test examples of the dataset: lower one of them (at most " + text(test / clients) +
                      " test examples a client)");
}

// Training rows of each class that can be given so that test sets of the asked size can have the same
// proportions.
std::vector<int64_t> usable_rows(const Options& options, const std::vector<int64_t>& train,
                                 const std::vector<int64_t>& test) {
  const int64_t size = options.examples_per_client;
  const int64_t test_size = options.test_examples_per_client;
  if (size == 0 || test_size == 0) return train;
  std::vector<int64_t> usable;
  for (std::size_t c = 0; c < train.size(); ++c)
    usable.push_back(std::min(train[c], test[c] * size / test_size));
  if (sum(usable) < options.clients * size)
    throw OptionError("--test-examples-per-client " + text(test_size) +
                      " with the class proportions of --clients " + text(options.clients) +
                      " x --examples-per-client " + text(size) +
                      " need more test examples of some classes than the dataset has: lower one of them");
  return usable;
}

Counts count_classes(const std::vector<std::vector<int64_t>>& rows, const Examples& examples) {
  Counts counts(static_cast<int64_t>(rows.size()), examples.classes);
  for (int64_t k = 0; k < counts.clients(); ++k)
    for (const int64_t row : rows[k]) ++counts.row(k)[examples.labels[row]];
  return counts;
}

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

// Shares `rows` out in the proportions of the clients' training rows and notes what could not be met.
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
    problem.notes.push_back(text(without) + " training examples are of classes without " + kind +
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
    problem.notes.push_back(
        kind + " sets smaller than their share for " + text(smaller) + " of " + text(problem.clients) +
        " clients, since classes that they hold have too few " + kind +
        " rows to keep the proportions of training (client " + text(poorest) + ": " +
        text(targets[poorest] - largest_loss) + " instead of " + text(targets[poorest]) +
        "); with --examples-per-client and --test-examples-per-client both are drawn to fit");
  if (filled.moved > 0)
    problem.notes.push_back(text(filled.moved) + " " + kind +
                            " rows are of another class of their client than "
                            "its training proportions ask for, since classes ran out; at most " +
                            text(std::llround(100 * kProportionTolerance)) + "% of a set but for rounding");
  return deal(filled.counts, rows);
}

// Moves --validation-share of a client's training rows, in their class proportions, to its validation rows.
void set_validation_aside(ClientExamples& client, int64_t number, const Examples& examples,
                          const Options& options) {
  const auto size = static_cast<int64_t>(client.train.size());
  if (size < 2) return;
  const int64_t wanted =
      std::clamp<int64_t>(std::llround(options.validation_share * static_cast<double>(size)), 1, size - 1);
  const std::vector<int64_t> held = class_counts(client.train, examples.labels, examples.classes);
  std::vector<int64_t> take = largest_remainder(held, wanted);
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

void check_clients(const Partition& partition, const Options& options) {
  for (std::size_t k = 0; k < partition.clients.size(); ++k) {
    const auto train = static_cast<int64_t>(partition.clients[k].train.size());
    if (train < options.min_examples)
      throw OptionError("client " + std::to_string(k) + " has " + text(train) +
                        " training examples, fewer than --min-examples " + text(options.min_examples) +
                        (options.validation_share > 0 ? ": lower --validation-share, " : ": lower ") +
                        "--min-examples or --clients, or raise --examples-per-client");
    if (partition.clients[k].test.empty())
      throw OptionError(
          "client " + std::to_string(k) +
          " has no test examples, since the test rows of its classes are used up: lower --clients, "
          "set both --examples-per-client and --test-examples-per-client, or prepare the dataset "
          "with more test rows");
  }
}

}  // namespace

KeyedRandom partition_random(const Options& options, PartitionStage stage, int64_t client, int64_t round,
                             int64_t slot) {
  return KeyedRandom(static_cast<uint64_t>(options.seed), Purpose::partition, client, round,
                     static_cast<int64_t>(stage), slot);
}

std::vector<std::vector<int64_t>> deal(const Counts& counts, const RowsByClass& rows) {
  std::vector<std::vector<int64_t>> dealt(counts.clients());
  for (int64_t c = 0; c < counts.classes(); ++c) {
    auto next = rows[c].begin();
    for (int64_t k = 0; k < counts.clients(); ++k) {
      dealt[k].insert(dealt[k].end(), next, next + counts.row(k)[c]);
      next += counts.row(k)[c];
    }
  }
  return dealt;
}

std::vector<int64_t> pooled_sizes(const PartitionProblem& problem) {
  if (problem.options.examples_per_client == 0) return problem.train_sizes;
  return capped_largest_remainder(problem.train_sizes, problem.usable,
                                  problem.clients * problem.options.examples_per_client);
}

Partition make_partition(const Examples& examples, const Options& options) {
  const PartitionMethod& method = find_method(options.partition);
  check_columns(examples);
  PartitionProblem problem{
      .options = options,
      .clients = options.clients,
      .classes = examples.classes,
      .train = rows_by_class(examples, kTrain, options, PartitionStage::train_rows),
      .test = rows_by_class(examples, kTest, options, PartitionStage::test_rows),
      .train_sizes = {},
      .test_sizes = {},
      .usable = {},
      .priority = {},
      .notes = {},
  };
  problem.train_sizes = sizes(problem.train);
  problem.test_sizes = sizes(problem.test);
  check_totals(options, sum(problem.train_sizes), sum(problem.test_sizes));
  problem.usable = usable_rows(options, problem.train_sizes, problem.test_sizes);
  problem.priority.resize(problem.clients);
  std::iota(problem.priority.begin(), problem.priority.end(), 0);
  partition_random(options, PartitionStage::priority).shuffle(std::span(problem.priority));

  PartitionDraw draw = method.make(problem);
  const Counts counts = count_classes(draw.train, examples);
  if (!draw.test)
    draw.test = share_in_proportion(problem, counts, problem.test, options.test_examples_per_client, "test");

  Partition partition;
  partition.clients.resize(problem.clients);
  for (int64_t k = 0; k < problem.clients; ++k) {
    partition.clients[k].train = std::move(draw.train[k]);
    partition.clients[k].test = std::move((*draw.test)[k]);
  }
  const RowsByClass validation =
      rows_by_class(examples, kValidation, options, PartitionStage::validation_rows);
  const int64_t validation_rows = sum(sizes(validation));
  if (options.validation_share > 0) {
    for (int64_t k = 0; k < problem.clients; ++k)
      set_validation_aside(partition.clients[k], k, examples, options);
    if (validation_rows > 0)
      problem.notes.push_back("the dataset's own " + text(validation_rows) +
                              " validation rows are left out, since --validation-share is given");
  } else if (validation_rows > 0) {
    std::vector<std::vector<int64_t>> shared =
        share_in_proportion(problem, counts, validation, 0, "validation");
    for (int64_t k = 0; k < problem.clients; ++k) partition.clients[k].validation = std::move(shared[k]);
  }
  for (ClientExamples& client : partition.clients)
    for (std::vector<int64_t>* rows : {&client.train, &client.validation, &client.test})
      std::sort(rows->begin(), rows->end());
  partition.notes = std::move(problem.notes);
  check_clients(partition, options);
  return partition;
}

std::vector<int64_t> class_counts(std::span<const int64_t> rows, std::span<const int32_t> labels,
                                  int64_t classes) {
  std::vector<int64_t> counts(classes);
  for (const int64_t row : rows) ++counts[labels[row]];
  return counts;
}

double majority_class_accuracy(std::span<const int64_t> train_counts, std::span<const int64_t> test_counts) {
  const int64_t total = sum(test_counts);
  if (total == 0 || train_counts.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto majority = std::max_element(train_counts.begin(), train_counts.end()) - train_counts.begin();
  return static_cast<double>(test_counts[majority]) / static_cast<double>(total);
}

std::vector<PartitionName> partition_names() {
  std::vector<PartitionName> names;
  for (const PartitionMethod& method : kMethods) names.push_back({method.name, method.description});
  return names;
}

}  // namespace pf2lora
