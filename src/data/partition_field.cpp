// Clients of the data themselves: a column of the dataset names the client of every row (as in Caldas et al.:
// LEAF: A benchmark for federated settings. 2018). With fewer --clients than there are names, those with most
// training rows are taken; clients are numbered in the order of the dataset's names.
//
// A client's test set are the dataset's own test rows of that client: all of them where their class
// proportions are near those of its training rows (in_proportion, below), otherwise as many as keep these.
// Where that is none, --test-share of the client's training rows is its test set (--test-examples-per-client
// of them, if that is given), drawn by class.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/text.h"
#include "data/partition_methods.h"

namespace pf2lora {
namespace {

// Names of the dataset that become clients, ascending: all that have training rows, or the largest.
std::vector<int64_t> taken_names(PartitionProblem& problem) {
  const Examples& data = problem.examples;
  if (data.client.empty())
    throw InputError(
        "--partition field needs a dataset that names the client of every row, and this one does not: "
        "prepare it with jobs/prepare.py --client COLUMN, or choose another --partition");
  std::vector<int64_t> held(data.client_names.size());
  for (const std::vector<int64_t>& rows : problem.train)
    for (const int64_t row : rows) ++held[data.client[row]];
  std::vector<int64_t> names;
  for (std::size_t name = 0; name < held.size(); ++name)
    if (held[name] > 0) names.push_back(static_cast<int64_t>(name));
  const auto found = static_cast<int64_t>(names.size());
  if (found == 0) throw InputError("the dataset has no training rows: prepare it again with a train split");
  if (problem.clients > found)
    throw OptionError("--clients " + std::to_string(problem.clients) + " is more than the " +
                      std::to_string(found) +
                      " clients that the training rows of the dataset name: set --clients " +
                      std::to_string(found) + " or fewer");
  if (problem.clients == found) return names;
  std::stable_sort(names.begin(), names.end(), [&](int64_t a, int64_t b) { return held[a] > held[b]; });
  names.resize(problem.clients);
  std::sort(names.begin(), names.end());
  std::vector<std::string> shown;
  int64_t rows = 0;
  for (const int64_t name : names) {
    shown.push_back(data.client_names[name]);
    rows += held[name];
  }
  problem.notes.push_back("the " + std::to_string(problem.clients) + " largest of " + std::to_string(found) +
                          " clients of the dataset are taken, with " + std::to_string(rows) + " of " +
                          std::to_string(sum(held)) + " training rows: " + shortened_list(shown));
  return names;
}

// result[k][c]: those of rows[c] that belong to names[k], in their order.
std::vector<RowsByClass> rows_by_client(const PartitionProblem& problem, const RowsByClass& rows,
                                        const std::vector<int64_t>& names) {
  std::vector<int64_t> number(problem.examples.client_names.size(), -1);
  for (std::size_t k = 0; k < names.size(); ++k) number[names[k]] = static_cast<int64_t>(k);
  std::vector<RowsByClass> result(names.size(), RowsByClass(problem.classes));
  for (int64_t c = 0; c < problem.classes; ++c)
    for (const int64_t row : rows[c])
      if (const int64_t k = number[problem.examples.client[row]]; k >= 0) result[k][c].push_back(row);
  return result;
}

// Takes the first counts[c] rows of every class c out of `rows`.
std::vector<int64_t> take(RowsByClass& rows, std::span<const int64_t> counts) {
  std::vector<int64_t> taken;
  for (std::size_t c = 0; c < rows.size(); ++c) {
    const auto end = rows[c].begin() + counts[c];
    taken.insert(taken.end(), rows[c].begin(), end);
    rows[c].erase(rows[c].begin(), end);
  }
  return taken;
}

// Distance in total variation between the proportions of two counts.
double distance(const std::vector<int64_t>& a, std::span<const int64_t> b, int64_t b_size) {
  const auto a_size = static_cast<double>(sum(a));
  double result = 0;
  for (std::size_t c = 0; c < a.size(); ++c)
    result += std::abs(static_cast<double>(a[c]) / a_size -
                       static_cast<double>(b[c]) / static_cast<double>(b_size));
  return result / 2;
}

// Whether `counts` are in the proportions of `train`, up to kProportionTolerance and one row in each class.
bool in_proportion(const std::vector<int64_t>& train, std::span<const int64_t> counts, int64_t size) {
  const auto held = static_cast<int64_t>(train.size()) - std::count(train.begin(), train.end(), int64_t{0});
  return size > 0 && distance(train, counts, size) <=
                         kProportionTolerance + static_cast<double>(held) / static_cast<double>(size);
}

// Up to `target` of a client's own test or validation rows in the proportions of its training rows (`train`,
// [classes]): the rows as they come, where those proportions are near enough, or else what can be had of each
// class. Empty where that is nothing.
std::vector<int64_t> own_set(const std::vector<int64_t>& train, RowsByClass& rows, int64_t target) {
  std::vector<int64_t> supply = sizes(rows);
  const int64_t all = std::min(target, sum(supply));
  if (const auto counts = largest_remainder(supply, all); in_proportion(train, counts, all))
    return take(rows, counts);
  Counts model(1, static_cast<int64_t>(train.size()));
  std::copy(train.begin(), train.end(), model.row(0).begin());
  const int64_t only = 0;
  const Filled filled = fill_in_proportion(model, {all}, supply, std::span(&only, 1));
  const int64_t size = all - filled.missing[0];
  if (!in_proportion(train, filled.counts.row(0), size)) return {};
  return take(rows, filled.counts.row(0));
}

// --examples-per-client of the rows held, by class; all of them without it, or where there are not as many.
std::vector<int64_t> drawn_counts(const Options& options, const std::vector<int64_t>& held) {
  const int64_t size = options.examples_per_client;
  return size > 0 && size <= sum(held) ? largest_remainder(held, size) : held;
}

// What there is too little of, for a client of the dataset.
OptionError too_few(const PartitionProblem& problem, int64_t name, int64_t available,
                    const std::string& wanted) {
  return OptionError("client '" + problem.examples.client_names[name] + "' of the dataset has " +
                     std::to_string(available) + " training rows, fewer than " + wanted +
                     ": lower that, or --clients (those with most rows are taken)");
}

void check_size(const PartitionProblem& problem, int64_t name, int64_t size) {
  const Options& options = problem.options;
  if (size < options.examples_per_client)
    throw too_few(problem, name, size,
                  "--examples-per-client " + std::to_string(options.examples_per_client));
  if (size < options.min_examples || size < fewest_rows(options))
    throw too_few(problem, name, size,
                  "--min-examples " + std::to_string(options.min_examples) +
                      (options.validation_share > 0 ? " beside --validation-share" : ""));
}

// Takes a test set out of a client's training rows.
std::vector<int64_t> set_test_aside(const PartitionProblem& problem, int64_t name, RowsByClass& train) {
  const std::vector<int64_t> held = sizes(train);
  const int64_t size = sum(held);
  const int64_t asked = problem.options.test_examples_per_client;
  if (asked >= size)
    throw too_few(problem, name, size,
                  "--test-examples-per-client " + std::to_string(asked) + " test examples and one to train");
  if (size < 2) throw too_few(problem, name, size, "one to train (--min-examples) and one to test");
  const int64_t share = std::llround(problem.options.test_share * static_cast<double>(size));
  return take(train, largest_remainder(held, asked > 0 ? asked : std::clamp<int64_t>(share, 1, size - 1)));
}

}  // namespace

PartitionDraw partition_field(PartitionProblem& problem) {
  const Options& options = problem.options;
  const std::vector<int64_t> names = taken_names(problem);
  std::vector<RowsByClass> train = rows_by_client(problem, problem.train, names);
  std::vector<RowsByClass> validation = rows_by_client(problem, problem.validation, names);
  std::vector<RowsByClass> test = rows_by_client(problem, problem.test, names);

  PartitionDraw draw;
  draw.test.emplace();
  draw.validation.emplace();
  int64_t set_aside = 0;  // clients whose test sets are training rows
  int64_t left_out = 0;   // test rows of the other clients
  int64_t smaller = 0;    // clients with fewer than were asked for
  const int64_t asked = options.test_examples_per_client;
  for (int64_t k = 0; k < problem.clients; ++k) {
    const std::vector<int64_t> model = drawn_counts(options, sizes(train[k]));
    const int64_t own = sum(sizes(test[k]));
    std::vector<int64_t> tests = own_set(model, test[k], asked > 0 ? asked : own);
    if (tests.empty()) {
      tests = set_test_aside(problem, names[k], train[k]);
      ++set_aside;
    } else if (asked > 0) {
      smaller += static_cast<int64_t>(tests.size()) < asked;
    } else {
      left_out += own - static_cast<int64_t>(tests.size());
    }
    const std::vector<int64_t> counts = drawn_counts(options, sizes(train[k]));
    check_size(problem, names[k], sum(counts));
    draw.client_names.push_back(problem.examples.client_names[names[k]]);
    draw.train.push_back(take(train[k], counts));
    draw.validation->push_back(own_set(model, validation[k], sum(sizes(validation[k]))));
    draw.test->push_back(std::move(tests));
  }
  const std::string of_clients = " of " + std::to_string(problem.clients) + " clients";
  if (set_aside > 0)
    problem.notes.push_back(
        "the test sets of " + std::to_string(set_aside) + of_clients + " are " +
        (options.test_examples_per_client > 0 ? "--test-examples-per-client"
                                              : "--test-share " + format_significant(options.test_share, 6)) +
        " of their training rows, since the dataset has no test rows of theirs in the same proportions");
  if (left_out > 0)
    problem.notes.push_back(
        std::to_string(left_out) +
        " test rows are left out to keep the proportions of their clients' training rows");
  if (smaller > 0)
    problem.notes.push_back("test sets smaller than --test-examples-per-client " +
                            std::to_string(options.test_examples_per_client) + " for " +
                            std::to_string(smaller) + of_clients +
                            ", since the dataset has no more test rows of theirs in proportion");
  return draw;
}

}  // namespace pf2lora
