// Which client holds which examples. No example is shared, and a client's test set has the class proportions
// of its training set: under label skew most of a personal model's gain is its client's label prior, so a
// test set with another prior would measure something else.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/options.h"

namespace pf2lora {

// The columns of a dataset that a partition looks at, one entry a row. split: 0 train, 1 validation, 2 test;
// client: an index of client_names, empty where the dataset names no clients; item: of which whole a row is a
// part, as windows are of a question, empty where each row is a whole.
struct Examples {
  std::span<const int32_t> labels;
  std::span<const int8_t> split;
  int64_t classes = 0;
  std::span<const int32_t> client = {};
  std::span<const std::string> client_names = {};
  std::span<const int32_t> item = {};
};

// Dataset rows, ascending.
struct ClientExamples {
  std::vector<int64_t> train;
  std::vector<int64_t> validation;
  std::vector<int64_t> test;
};

// `notes` are sentences for the log: what could not be given exactly as asked, in numbers.
struct Partition {
  std::vector<ClientExamples> clients;
  // The class of every dataset row as the client that holds it reads it: the dataset's own but for the
  // clients of --label-conflict.
  std::vector<int32_t> labels;
  // label_maps[k][c]: as which class client k reads class c; empty without --label-conflict.
  std::vector<std::vector<int32_t>> label_maps;
  std::vector<std::string> client_names;  // where the data name them (field)
  std::vector<std::string> notes;
};

// Shares out the examples as --partition and the options around it say; a function of the options and the
// examples alone, the same on every rank.
//
// Test sets: with --test-examples-per-client that many each; otherwise, for a client that holds a part of the
// training rows, the same part of the test rows, or an equal share with --examples-per-client. Proportions
// are those of the client's training rows up to rounding and kProportionTolerance (apportion.h); a client
// whose classes have too few test rows gets a smaller set and a note says so. When both numbers are given,
// training rows of a class count only as far as its test rows can follow, so that both can be met. One client
// alone (--clients 1) without --test-examples-per-client holds all test rows. `field` takes test rows of the
// same client of the data, or a part of its training rows (partition_field.cpp). Validation sets:
// --validation-share of the client's own training rows, by class, at least one. The dataset's own validation
// rows are shared out like test rows when that share is 0, and left out otherwise. Rows of one item go to one
// client and count as one example.
//
// Throws OptionError for what other options would cure (more clients than examples, a client below
// --min-examples, which counts training rows without validation rows), InputError for unusable columns or a
// dataset without training or test rows.
Partition make_partition(const Examples& examples, const Options& options);

// Examples of each class among `rows`: [classes].
std::vector<int64_t> class_counts(std::span<const int64_t> rows, std::span<const int32_t> labels,
                                  int64_t classes);

// Accuracy on the test set of always answering the most frequent training class (the lowest of equals); NaN
// without test examples.
double majority_class_accuracy(std::span<const int64_t> train_counts, std::span<const int64_t> test_counts);

// A row of the table behind --list.
struct PartitionName {
  std::string_view name;
  std::string_view description;
};
std::vector<PartitionName> partition_names();

// OptionError, with the names that there are, for a --partition that is none of them.
void check_partition_name(const std::string& name);

}  // namespace pf2lora
