// Datasets and checks that the tests of the partitions share.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "data/apportion.h"
#include "data/partition.h"

namespace pf2lora {

// A dataset with given numbers of rows by class, in a mixed order. Nine clients are named, of different sizes
// and class proportions, which are the same in every split but for chance.
struct Dataset {
  std::vector<int32_t> labels;
  std::vector<int8_t> split;
  int64_t classes;
  std::vector<int32_t> client;
  std::vector<std::string> client_names;

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
    KeyedRandom random(98, Purpose::partition);
    for (const auto& [label, part] : rows) {
      labels.push_back(label);
      split.push_back(part);
      std::vector<double> weights;
      for (int32_t name = 0; name < 9; ++name) weights.push_back(3 + (7 * name + 3 * label) % 5);
      client.push_back(static_cast<int32_t>(drawn(random, weights)));
    }
    for (int name = 0; name < 9; ++name) client_names.push_back("writer " + std::to_string(name));
  }
  Examples examples() const { return {labels, split, classes, client, client_names}; }
  int64_t rows_of(int8_t part) const { return std::count(split.begin(), split.end(), part); }

 private:
  // An index, with a probability in proportion to its weight.
  static int64_t drawn(KeyedRandom& random, const std::vector<double>& weights) {
    double left = random.uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
    int64_t index = 0;
    while (index + 1 < static_cast<int64_t>(weights.size()) && left >= weights[index])
      left -= weights[index++];
    return index;
  }
};

// Every partition that many clients can have; all but "field" take their test sets from the test rows alone.
inline const std::vector<std::string> kPartitions = {"dirichlet", "label-sort", "shards",
                                                     "quantity",  "field",      "iid"};

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

// Rows of one client of the data, which no other holds.
inline void check_named(const Dataset& data, const Partition& partition) {
  std::set<int32_t> names;
  for (const ClientExamples& client : partition.clients) {
    const int32_t name = data.client[client.train.front()];
    EXPECT_TRUE(names.insert(name).second) << "two clients are " << data.client_names[name];
    for (const auto* rows : {&client.train, &client.validation, &client.test})
      for (const int64_t row : *rows) EXPECT_EQ(data.client[row], name);
  }
}

// Labels are the dataset's but for the share of clients that --label-conflict gives, each of which reads all
// of its rows through one permutation without fixed points.
inline void check_labels(const Dataset& data, const Options& options, const Partition& partition) {
  std::vector<int32_t> expected = data.labels;
  int64_t conflicting = 0;
  ASSERT_EQ(partition.label_maps.size(), options.label_conflict > 0 ? partition.clients.size() : 0);
  for (std::size_t k = 0; k < partition.label_maps.size(); ++k) {
    const std::vector<int32_t>& map = partition.label_maps[k];
    std::vector<int32_t> unchanged(data.classes);
    std::iota(unchanged.begin(), unchanged.end(), 0);
    ASSERT_TRUE(std::is_permutation(map.begin(), map.end(), unchanged.begin(), unchanged.end()));
    if (map == unchanged) continue;
    ++conflicting;
    for (int64_t c = 0; c < data.classes; ++c) EXPECT_NE(map[c], c);
    const ClientExamples& own = partition.clients[k];
    for (const auto* rows : {&own.train, &own.validation, &own.test})
      for (const int64_t row : *rows) expected[row] = map[data.labels[row]];
  }
  EXPECT_EQ(conflicting, std::llround(options.label_conflict * static_cast<double>(options.clients)));
  EXPECT_EQ(partition.labels, expected);
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
    // The field partition's test sets may be training rows that nobody trains on.
    for (const int64_t row : client.test)
      EXPECT_TRUE(data.split[row] == 2 || (options.partition == "field" && data.split[row] == 0));
    for (const auto* rows : {&client.train, &client.validation, &client.test})
      EXPECT_TRUE(std::is_sorted(rows->begin(), rows->end()));
    EXPECT_GE(size(client.train), options.min_examples);
    EXPECT_GE(client.test.size(), 1u);
    if (options.validation_share > 0) {
      EXPECT_GE(client.validation.size(), 1u);
    }
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
  check_labels(data, options, partition);
  if (options.partition == "field") check_named(data, partition);
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
