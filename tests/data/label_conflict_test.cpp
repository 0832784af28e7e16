#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "partition_fixture.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

std::set<int64_t> conflicting(const Partition& partition) {
  std::set<int64_t> clients;
  for (std::size_t k = 0; k < partition.label_maps.size(); ++k)
    if (!std::is_sorted(partition.label_maps[k].begin(), partition.label_maps[k].end()))
      clients.insert(static_cast<int64_t>(k));
  return clients;
}

TEST(LabelConflict, ChangesLabelsAndNothingElse) {
  for (const std::string& name : kPartitions) {
    Options options = options_for(name, 8);
    options.dirichlet_alpha = 1;
    options.validation_share = 0.2;
    const Partition plain = make_partition(skewed().examples(), options);
    EXPECT_EQ(plain.labels, skewed().labels);
    options.label_conflict = 0.5;
    const Partition conflict = make_partition(skewed().examples(), options);
    check(skewed(), options, conflict, name);
    EXPECT_EQ(conflicting(conflict).size(), 4u);
    for (int k = 0; k < 8; ++k) {
      const ClientExamples& own = conflict.clients[k];
      EXPECT_EQ(own.train, plain.clients[k].train);
      EXPECT_EQ(own.validation, plain.clients[k].validation);
      EXPECT_EQ(own.test, plain.clients[k].test);
      // What a client reads has the counts of the dataset under other names, and the same majority.
      const auto raw = class_counts(own.train, skewed().labels, 6);
      const auto read = class_counts(own.train, conflict.labels, 6);
      for (int c = 0; c < 6; ++c) EXPECT_EQ(read[conflict.label_maps[k][c]], raw[c]);
    }
  }
}

TEST(LabelConflict, ALargerShareTakesTheSameClientsAndMore) {
  Options options = options_for("iid", 10);
  std::set<int64_t> before;
  for (const double share : {0.1, 0.34, 0.66, 1.0}) {
    options.label_conflict = share;
    const Partition partition = make_partition(balanced().examples(), options);
    const std::set<int64_t> now = conflicting(partition);
    EXPECT_EQ(static_cast<int64_t>(now.size()), std::llround(10 * share));
    EXPECT_TRUE(std::includes(now.begin(), now.end(), before.begin(), before.end()));
    EXPECT_THAT(partition.notes, Contains(HasSubstr(std::to_string(now.size()) + " of 10 clients read")));
    before = now;
  }
}

// Every client is chosen alike, and with four classes each of the 3! cycles comes alike, whatever the other
// client's is.
TEST(LabelConflict, DrawsClientsAndPermutationsAtRandom) {
  std::vector<int64_t> chosen(5);
  std::map<std::vector<int32_t>, int64_t> cycles;
  int64_t same = 0;
  constexpr int seeds = 1200;
  for (int64_t seed = 0; seed < seeds; ++seed) {
    Options options = options_for("iid", 5);
    options.seed = seed;
    options.label_conflict = 0.4;
    const Partition partition = make_partition(balanced().examples(), options);
    const std::set<int64_t> two = conflicting(partition);
    same += partition.label_maps[*two.begin()] == partition.label_maps[*two.rbegin()];
    for (const int64_t k : two) {
      ++chosen[k];
      ++cycles[partition.label_maps[k]];
    }
  }
  for (const int64_t count : chosen) EXPECT_NEAR(count, 0.4 * seeds, 4 * std::sqrt(0.24 * seeds));
  EXPECT_NEAR(same, seeds / 6, 4 * std::sqrt(seeds * 5 / 36.0));
  EXPECT_EQ(cycles.size(), 6u);
  for (const auto& [map, count] : cycles)
    EXPECT_NEAR(count, 2 * seeds / 6, 4 * std::sqrt(2 * seeds * 5 / 36.0));
}

TEST(LabelConflict, SwapsTwoClasses) {
  Options options = options_for("iid", 3);
  options.label_conflict = 1;
  for (const auto& map : make_partition(two_classes().examples(), options).label_maps)
    EXPECT_EQ(map, (std::vector<int32_t>{1, 0}));
}

TEST(LabelConflict, RefusesAShareOfNobodyAndASingleClass) {
  Options options = options_for("iid", 4);
  options.label_conflict = 0.1;
  EXPECT_THAT(message_of(balanced(), options),
              AllOf(HasSubstr("--label-conflict 0.1"), HasSubstr("--clients 4"), HasSubstr("0.25 or more")));
  const Dataset one_class({50}, {50});
  options.label_conflict = 1;
  EXPECT_THAT(message_of(one_class, options), HasSubstr("two classes or more"));
}

}  // namespace
}  // namespace pf2lora
