// Datasets and checks that the tests of the partitions share.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "data/apportion.h"
#include "data/partition.h"

namespace pf2lora {

// A dataset with given numbers of rows by class, in a mixed order.
struct Dataset {
  std::vector<int32_t> labels;
  std::vector<int8_t> split;
  int64_t classes;

  Dataset(const std::vector<int64_t>& train, const std::vector<int64_t>& test,
          const std::vector<int64_t>& validation = {})
      : classes(static_cast<int64_t>(train.size())) {
    std::vector<std::pair<int32_t, int8_t>> rows;
    const auto add = [&](const std::vector<int64_t>& counts, int8_t part) {
      for (std::size_t c = 0; c < counts.size(); ++c)
        rows.insert(rows.end(), counts[c], {static_cast<int32_t>(c), part});
    };
    add(train, 0);
    add(validation, 1);
    add(test, 2);
    KeyedRandom(99, Purpose::partition).shuffle(std::span(rows));
    for (const auto& [label, part] : rows) {
      labels.push_back(label);
      split.push_back(part);
    }
  }
  Examples examples() const { return {labels, split, classes}; }
  int64_t rows_of(int8_t part) const { return std::count(split.begin(), split.end(), part); }
};

inline Options options_for(const std::string& partition, int64_t clients) {
  Options options;
  options.partition = partition;
  options.clients = clients;
  options.min_examples = 1;
  return options;
}

inline int64_t size(const std::vector<int64_t>& rows) {
  return static_cast<int64_t>(rows.size());
}

// Distance in total variation between the class proportions of two sets of rows.
inline double distance(const Dataset& data, const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  const auto x = class_counts(a, data.labels, data.classes);
  const auto y = class_counts(b, data.labels, data.classes);
  double sum = 0;
  for (int64_t c = 0; c < data.classes; ++c)
    sum += 0.5 * std::abs(static_cast<double>(x[c]) / static_cast<double>(a.size()) -
                          static_cast<double>(y[c]) / static_cast<double>(b.size()));
  return sum;
}

inline int64_t classes_held(const Dataset& data, const std::vector<int64_t>& rows) {
  const auto counts = class_counts(rows, data.labels, data.classes);
  return data.classes - std::count(counts.begin(), counts.end(), 0);
}

inline std::string message_of(const Dataset& data, const Options& options) {
  try {
    make_partition(data.examples(), options);
  } catch (const OptionError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no OptionError";
  return "";
}

// What holds for every partition: rows of the right split, ascending, none shared, at least min-examples, and
// the test set in the proportions of the training set.
inline void check(const Dataset& data, const Options& options, const Partition& partition,
                  const std::string& what) {
  SCOPED_TRACE(what);
  ASSERT_EQ(static_cast<int64_t>(partition.clients.size()), options.clients);
  std::set<int64_t> seen;
  for (const ClientExamples& client : partition.clients) {
    std::vector<int64_t> all = client.train;
    all.insert(all.end(), client.validation.begin(), client.validation.end());
    const std::vector<int64_t> training = all;
    all.insert(all.end(), client.test.begin(), client.test.end());
    for (const int64_t row : all) EXPECT_TRUE(seen.insert(row).second) << "row " << row << " is shared";
    for (const int64_t row : client.train) EXPECT_EQ(data.split[row], 0);
    for (const int64_t row : client.validation)
      EXPECT_EQ(data.split[row], options.validation_share > 0 ? 0 : 1);
    for (const int64_t row : client.test) EXPECT_EQ(data.split[row], 2);
    for (const auto* rows : {&client.train, &client.validation, &client.test})
      EXPECT_TRUE(std::is_sorted(rows->begin(), rows->end()));
    EXPECT_GE(size(client.train), options.min_examples);
    EXPECT_GE(client.test.size(), 1u);
    if (options.examples_per_client > 0) {
      EXPECT_EQ(size(client.train) + (options.validation_share > 0 ? size(client.validation) : 0),
                options.examples_per_client);
    }
    if (options.test_examples_per_client > 0) {
      EXPECT_LE(size(client.test), options.test_examples_per_client);
    }
    const auto held = static_cast<double>(classes_held(data, training));
    EXPECT_LE(distance(data, options.validation_share > 0 ? training : client.train, client.test),
              kProportionTolerance + held / static_cast<double>(client.test.size()));
  }
}

inline const Dataset& balanced() {
  static const Dataset data({600, 600, 600, 600}, {300, 300, 300, 300});
  return data;
}
inline const Dataset& skewed() {
  static const Dataset data({2000, 900, 700, 300, 60, 40}, {400, 200, 150, 60, 12, 8});
  return data;
}
inline const Dataset& two_classes() {
  static const Dataset data({3000, 2400}, {180, 190}, {100, 90});
  return data;
}

}  // namespace pf2lora
