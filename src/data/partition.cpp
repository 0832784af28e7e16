#include "data/partition.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "core/error.h"
#include "core/text.h"
#include "data/label_conflict.h"
#include "data/partition_methods.h"
#include "data/partition_sets.h"

namespace pf2lora {
namespace {

struct PartitionMethod {
  std::string_view name;
  std::string_view description;
  PartitionDraw (*make)(PartitionProblem& problem);
  bool takes_own_rows = false;  // the data say whose a row is: totals over all clients tell nothing
};

constexpr std::array kMethods = {
    PartitionMethod{"dirichlet", "class proportions drawn from a Dirichlet distribution",
                    partition_dirichlet},
    PartitionMethod{"label-sort", "a part of each class handed out in the order of the labels",
                    partition_label_sort},
    PartitionMethod{"shards", "contiguous shards of the training rows in the order of the labels",
                    partition_shards},
    PartitionMethod{"quantity", "sizes drawn from a Dirichlet distribution, classes alike",
                    partition_quantity},
    PartitionMethod{"field", "the clients that a column of the data names", partition_field, true},
    PartitionMethod{"iid", "equal shares of every class", partition_iid},
    PartitionMethod{"pooled", "one client holds everything", partition_pooled},
};

constexpr int8_t kTrain = 0;
constexpr int8_t kValidation = 1;
constexpr int8_t kTest = 2;

const PartitionMethod& find_method(const std::string& name) {
  std::vector<std::string> known;
  for (const PartitionMethod& method : kMethods) {
    if (method.name == name) return method;
    known.emplace_back(method.name);
  }
  throw OptionError("option partition: '" + name + "' is not known; give one of " + join(known, ", ") +
                    did_you_mean(name, known));
}

void check_columns(const Examples& examples) {
  if (examples.labels.size() != examples.split.size())
    throw InputError("the dataset has " + std::to_string(examples.labels.size()) + " labels but " +
                     std::to_string(examples.split.size()) + " split entries: prepare it again");
  if (examples.classes < 1)
    throw InputError("the dataset has " + std::to_string(examples.classes) +
                     " classes: prepare it again with labels");
  for (std::size_t i = 0; i < examples.labels.size(); ++i) {
    if (examples.labels[i] < 0 || examples.labels[i] >= examples.classes)
      throw InputError("row " + std::to_string(i) + " of the dataset has label " +
                       std::to_string(examples.labels[i]) + ", outside its " +
                       std::to_string(examples.classes) + " classes: prepare it again");
    if (examples.split[i] < kTrain || examples.split[i] > kTest)
      throw InputError("row " + std::to_string(i) + " of the dataset has split " +
                       std::to_string(examples.split[i]) +
                       ", not 0 (train), 1 (validation) or 2 (test): prepare it again");
  }
  if (!examples.item.empty() && examples.item.size() != examples.labels.size())
    throw InputError("the dataset has " + std::to_string(examples.labels.size()) + " labels but items of " +
                     std::to_string(examples.item.size()) + " rows: prepare it again");
  if (examples.client.empty()) return;
  if (examples.client.size() != examples.labels.size())
    throw InputError("the dataset has " + std::to_string(examples.labels.size()) +
                     " labels but names the clients of " + std::to_string(examples.client.size()) +
                     " rows: prepare it again");
  for (std::size_t i = 0; i < examples.client.size(); ++i)
    if (examples.client[i] < 0 ||
        static_cast<std::size_t>(examples.client[i]) >= examples.client_names.size())
      throw InputError("row " + std::to_string(i) + " of the dataset has client " +
                       std::to_string(examples.client[i]) + ", outside its " +
                       std::to_string(examples.client_names.size()) + " client names: prepare it again");
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

// For messages about --min-examples.
std::string beside_validation(const Options& options) {
  if (options.validation_share == 0) return "";
  return " beside --validation-share " + format_significant(options.validation_share, 6);
}

// Throws for options that no data could meet.
void check_options(const Options& options) {
  if (options.clients < 1)
    throw OptionError("--clients " + std::to_string(options.clients) + " is too few: set 1 or more");
  const int64_t size = options.examples_per_client;
  if (size > 0 && size < options.min_examples)
    throw OptionError("--examples-per-client " + std::to_string(size) + " is below --min-examples " +
                      std::to_string(options.min_examples) + ": raise the first or lower the second");
}

// Throws for what no way of sharing out could meet.
void check_totals(const Options& options, int64_t train, int64_t test) {
  if (train == 0) throw InputError("the dataset has no training rows: prepare it again with a train split");
  if (test == 0) throw InputError("the dataset has no test rows: prepare it again with a test split");
  const int64_t clients = options.clients;
  if (clients > train)
    throw OptionError("--clients " + std::to_string(clients) + " is more than the " + std::to_string(train) +
                      " training examples of the dataset: lower --clients");
  if (clients > test)
    throw OptionError("--clients " + std::to_string(clients) + " is more than the " + std::to_string(test) +
                      " test examples of the dataset, and every client needs one: lower --clients");
  const int64_t size = options.examples_per_client;
  if (size > train / clients)
    throw OptionError("--clients " + std::to_string(clients) + " with --examples-per-client " +
                      std::to_string(size) + " need more than the " + std::to_string(train) +
                      " training examples of the dataset: lower one of them (at most " +
                      std::to_string(train / clients) + " examples a client)");
  if (size > 0 && size < fewest_rows(options))
    throw OptionError("--examples-per-client " + std::to_string(size) + " is too few for --min-examples " +
                      std::to_string(options.min_examples) + beside_validation(options) +
                      ": raise the first or lower one of the others");
  if (options.min_examples > train / clients || fewest_rows(options) > train / clients)
    throw OptionError("--min-examples " + std::to_string(options.min_examples) + " for --clients " +
                      std::to_string(clients) + beside_validation(options) + " need more than the " +
                      std::to_string(train) + " training examples of the dataset: lower one of them");
  if (options.test_examples_per_client > test / clients)
    throw OptionError("--clients " + std::to_string(clients) + " with --test-examples-per-client " +
                      std::to_string(options.test_examples_per_client) + " need more than the " +
                      std::to_string(test) + " test examples of the dataset: lower one of them (at most " +
                      std::to_string(test / clients) + " test examples a client)");
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
    throw OptionError("--test-examples-per-client " + std::to_string(test_size) +
                      " with the class proportions of --clients " + std::to_string(options.clients) +
                      " x --examples-per-client " + std::to_string(size) +
                      " need more test examples of some classes than the dataset has: lower one of them");
  return usable;
}

Counts count_classes(const std::vector<std::vector<int64_t>>& rows, const Examples& examples) {
  Counts counts(static_cast<int64_t>(rows.size()), examples.classes);
  for (int64_t k = 0; k < counts.clients(); ++k)
    for (const int64_t row : rows[k]) ++counts.row(k)[examples.labels[row]];
  return counts;
}

void check_clients(const Partition& partition, const Options& options) {
  for (std::size_t k = 0; k < partition.clients.size(); ++k) {
    const auto train = static_cast<int64_t>(partition.clients[k].train.size());
    if (train < options.min_examples)
      throw OptionError("client " + std::to_string(k) + " has " + std::to_string(train) +
                        " training examples, fewer than --min-examples " +
                        std::to_string(options.min_examples) +
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

// Says it where scores of single clients will be coarse.
void note_small_tests(const Partition& partition, std::vector<std::string>& notes) {
  constexpr int64_t kCoarse = 10;  // examples: an accuracy in steps of 10 points
  int64_t smallest = std::numeric_limits<int64_t>::max(), coarse = 0;
  for (const ClientExamples& client : partition.clients) {
    const auto size = static_cast<int64_t>(client.test.size());
    smallest = std::min(smallest, size);
    coarse += size < kCoarse;
  }
  if (coarse > 0)
    notes.push_back(std::to_string(coarse) + " of " +
                    std::to_string(static_cast<int64_t>(partition.clients.size())) +
                    " clients have fewer than " + std::to_string(kCoarse) +
                    " test examples (the fewest: " + std::to_string(smallest) +
                    "), so that their accuracies are coarse: lower --clients, or set " +
                    "--examples-per-client and --test-examples-per-client");
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

std::vector<int64_t> sizes(const RowsByClass& rows) {
  std::vector<int64_t> result;
  for (const std::vector<int64_t>& own : rows) result.push_back(static_cast<int64_t>(own.size()));
  return result;
}

int64_t validation_size(const Options& options, int64_t size) {
  if (options.validation_share == 0) return 0;
  const int64_t rounded = std::llround(options.validation_share * static_cast<double>(size));
  return std::max<int64_t>(1, std::min(rounded, size - 1));
}

int64_t fewest_rows(const Options& options) {
  int64_t size = options.min_examples;
  while (size - validation_size(options, size) < options.min_examples) ++size;
  return size;
}

std::vector<int64_t> pooled_sizes(const PartitionProblem& problem) {
  if (problem.options.examples_per_client == 0) return problem.train_sizes;
  return capped_largest_remainder(problem.train_sizes, problem.usable,
                                  problem.clients * problem.options.examples_per_client);
}

namespace {

// Each row an example of its own.
Partition share_out(const Examples& examples, const Options& options) {
  const PartitionMethod& method = find_method(options.partition);
  check_options(options);
  PartitionProblem problem{
      .options = options,
      .examples = examples,
      .clients = options.clients,
      .classes = examples.classes,
      .train = rows_by_class(examples, kTrain, options, PartitionStage::train_rows),
      .validation = rows_by_class(examples, kValidation, options, PartitionStage::validation_rows),
      .test = rows_by_class(examples, kTest, options, PartitionStage::test_rows),
      .train_sizes = {},
      .test_sizes = {},
      .usable = {},
      .priority = {},
      .notes = {},
  };
  problem.train_sizes = sizes(problem.train);
  problem.test_sizes = sizes(problem.test);
  if (!method.takes_own_rows) {
    check_totals(options, sum(problem.train_sizes), sum(problem.test_sizes));
    problem.usable = usable_rows(options, problem.train_sizes, problem.test_sizes);
  }
  problem.priority.resize(problem.clients);
  std::iota(problem.priority.begin(), problem.priority.end(), 0);
  partition_random(options, PartitionStage::priority).shuffle(std::span(problem.priority));

  PartitionDraw draw = method.make(problem);
  const Counts counts = count_classes(draw.train, examples);
  if (!draw.test)
    draw.test = share_in_proportion(problem, counts, problem.test, options.test_examples_per_client, "test");
  const int64_t validation_rows = sum(sizes(problem.validation));
  if (options.validation_share == 0 && validation_rows > 0 && !draw.validation)
    draw.validation = share_in_proportion(problem, counts, problem.validation, 0, "validation");

  Partition partition;
  partition.clients.resize(problem.clients);
  for (int64_t k = 0; k < problem.clients; ++k) {
    ClientExamples& client = partition.clients[k];
    client.train = std::move(draw.train[k]);
    client.test = std::move((*draw.test)[k]);
    if (options.validation_share > 0)
      set_validation_aside(client, k, examples, options);
    else if (draw.validation)
      client.validation = std::move((*draw.validation)[k]);
    for (std::vector<int64_t>* rows : {&client.train, &client.validation, &client.test})
      std::sort(rows->begin(), rows->end());
  }
  if (options.validation_share > 0 && validation_rows > 0)
    problem.notes.push_back("the dataset's own " + std::to_string(validation_rows) +
                            " validation rows are left out, since --validation-share is given");
  check_clients(partition, options);
  partition.client_names = std::move(draw.client_names);
  partition.notes = std::move(problem.notes);
  note_small_tests(partition, partition.notes);
  apply_label_conflict(partition, examples, options);
  return partition;
}

// The rows of each item, ascending; the items in the order of their first rows.
std::vector<std::vector<int64_t>> rows_by_item(const Examples& examples) {
  std::vector<std::vector<int64_t>> rows;
  std::unordered_map<int32_t, std::size_t> place;
  for (std::size_t i = 0; i < examples.item.size(); ++i) {
    const auto [at, is_new] = place.try_emplace(examples.item[i], rows.size());
    if (is_new) rows.emplace_back();
    rows[at->second].push_back(static_cast<int64_t>(i));
    const auto first = static_cast<std::size_t>(rows[at->second].front());
    if (examples.split[i] != examples.split[first])
      throw InputError("rows " + std::to_string(first) + " and " + std::to_string(i) +
                       " of the dataset are parts of item " + std::to_string(examples.item[i]) +
                       ", but have splits " + std::to_string(examples.split[first]) + " and " +
                       std::to_string(examples.split[i]) + ": prepare it again");
  }
  return rows;
}

}  // namespace

Partition make_partition(const Examples& examples, const Options& options) {
  check_columns(examples);
  if (examples.item.empty()) return share_out(examples, options);

  const std::vector<std::vector<int64_t>> rows = rows_by_item(examples);
  std::vector<int32_t> labels, client;
  std::vector<int8_t> split;
  for (const std::vector<int64_t>& own : rows) {
    labels.push_back(examples.labels[own.front()]);
    split.push_back(examples.split[own.front()]);
    if (!examples.client.empty()) client.push_back(examples.client[own.front()]);
  }
  Partition partition = share_out({labels, split, examples.classes, client, examples.client_names}, options);
  for (ClientExamples& held : partition.clients)
    for (std::vector<int64_t>* items : {&held.train, &held.validation, &held.test}) {
      std::vector<int64_t> all;
      for (const int64_t item : *items) all.insert(all.end(), rows[item].begin(), rows[item].end());
      std::sort(all.begin(), all.end());
      *items = std::move(all);
    }
  std::vector<int32_t> of_row(examples.labels.size());
  for (std::size_t item = 0; item < rows.size(); ++item)
    for (const int64_t row : rows[item]) of_row[row] = partition.labels[item];
  partition.labels = std::move(of_row);
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

void check_partition_name(const std::string& name) {
  find_method(name);
}

}  // namespace pf2lora
