#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "partition_fixture.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

// E[p^2] = (a + 1) / (C (C a + 1)) for Dirichlet(a) over C classes, rounding to whole examples apart.
TEST(DirichletPartition, ProportionsHaveTheMomentsOfTheDistribution) {
  const Dataset data({4000, 4000, 4000, 4000}, {400, 400, 400, 400});
  for (const double alpha : {0.1, 1.0, 10.0}) {
    double second = 0;
    double fourth = 0;
    constexpr int seeds = 500;
    for (int64_t seed = 0; seed < seeds; ++seed) {
      Options options = options_for("dirichlet", 1);
      options.seed = seed;
      options.dirichlet_alpha = alpha;
      options.examples_per_client = 1000;
      const auto train = make_partition(data.examples(), options).clients[0].train;
      const double p = static_cast<double>(class_counts(train, data.labels, 4)[2]) / 1000;
      second += p * p / seeds;
      fourth += p * p * p * p / seeds;
    }
    const double expected = (alpha + 1) / (4 * (4 * alpha + 1));
    EXPECT_NEAR(second, expected, 4 * std::sqrt((fourth - second * second) / seeds) + 1e-3) << alpha;
  }
}

TEST(DirichletPartition, TinyAlphaGivesOneClassAndLargeAlphaEqualParts) {
  for (int64_t seed = 0; seed < 30; ++seed) {
    Options options = options_for("dirichlet", 3);
    options.seed = seed;
    options.examples_per_client = 100;
    options.dirichlet_alpha = 1e-3;
    int64_t classes = 0;
    for (const ClientExamples& client : make_partition(balanced().examples(), options).clients)
      classes += classes_held(balanced(), client.train);
    EXPECT_LE(classes, 4);
    options.dirichlet_alpha = 1e3;
    for (const ClientExamples& client : make_partition(balanced().examples(), options).clients)
      for (const int64_t count : class_counts(client.train, balanced().labels, 4)) EXPECT_NEAR(count, 25, 5);
  }
}

TEST(DirichletPartition, SharesEveryClassOutOverTheClientsWithoutASize) {
  Options options = options_for("dirichlet", 4);
  options.dirichlet_alpha = 1e3;
  for (const ClientExamples& client : make_partition(balanced().examples(), options).clients)
    for (const int64_t count : class_counts(client.train, balanced().labels, 4)) EXPECT_NEAR(count, 150, 20);
  options.dirichlet_alpha = 1e-3;  // with four classes for two clients, nearly every class has one owner
  options.clients = 2;
  for (int64_t seed = 0; seed < 20; ++seed) {
    options.seed = seed;
    int64_t held = 0;
    for (const ClientExamples& client : make_partition(balanced().examples(), options).clients)
      held += classes_held(balanced(), client.train);
    EXPECT_LE(held, 5);
  }
}

TEST(DirichletPartition, AClientsProportionsDoNotDependOnTheNumberOfClients) {
  const Dataset data({9000, 9000, 9000, 9000}, {900, 900, 900, 900});
  Options options = options_for("dirichlet", 3);
  options.examples_per_client = 100;
  const Partition few = make_partition(data.examples(), options);
  options.clients = 12;
  const Partition many = make_partition(data.examples(), options);
  for (int k = 0; k < 3; ++k)
    EXPECT_EQ(class_counts(few.clients[k].train, data.labels, 4),
              class_counts(many.clients[k].train, data.labels, 4));
}

TEST(DirichletPartition, SaysHowManyExamplesCameFromAnotherClassThanDrawn) {
  const Dataset data({300, 300, 300, 300}, {300, 300, 300, 300});
  Options options = options_for("dirichlet", 12);
  options.dirichlet_alpha = 1e-3;
  options.examples_per_client = 100;  // everything is used: clients of one class want 100, a class has 300
  const Partition partition = make_partition(data.examples(), options);
  EXPECT_THAT(partition.notes, Contains(AllOf(HasSubstr("of 1200 training examples"), HasSubstr("ran out"))));
  std::vector<int64_t> used(4);
  for (const ClientExamples& client : partition.clients) {
    const auto counts = class_counts(client.train, data.labels, 4);
    for (int c = 0; c < 4; ++c) used[c] += counts[c];
  }
  EXPECT_EQ(used, (std::vector<int64_t>{300, 300, 300, 300}));
}

TEST(DirichletPartition, GivesUpAfterABoundedNumberOfDrawsAndSaysWhatToChange) {
  Options options = options_for("dirichlet", 8);
  options.dirichlet_alpha = 1e-3;  // two classes have at most a few owners
  options.min_examples = 10;
  const std::string message = message_of(two_classes(), options);
  for (const char* part :
       {"100 draws", "--min-examples 10", "--examples-per-client", "--dirichlet-alpha", "--clients"})
    EXPECT_THAT(message, HasSubstr(part));
}

TEST(LabelSortPartition, GivesEachClientItsOwnLabelsWhenAllIsSorted) {
  Options options = options_for("label-sort", 4);
  options.label_sort = 1;
  for (const int64_t examples : {0, 100}) {
    options.examples_per_client = examples;
    const Partition partition = make_partition(balanced().examples(), options);
    for (int k = 0; k < 4; ++k) {
      const auto counts = class_counts(partition.clients[k].train, balanced().labels, 4);
      EXPECT_EQ(counts[k], examples == 0 ? 600 : examples);
      EXPECT_EQ(classes_held(balanced(), partition.clients[k].test), 1);
    }
  }
}

// s = 0.5: half of each class (300 of 600) belongs to its owner, the other half lies in the common pool.
TEST(LabelSortPartition, MixesTheUnsortedPartOverAllClients) {
  for (int64_t seed = 0; seed < 20; ++seed) {
    Options options = options_for("label-sort", 4);
    options.seed = seed;
    options.label_sort = 0.5;
    const Partition partition = make_partition(balanced().examples(), options);
    for (int k = 0; k < 4; ++k) {
      const auto counts = class_counts(partition.clients[k].train, balanced().labels, 4);
      EXPECT_EQ(size(partition.clients[k].train), 600);
      for (int c = 0; c < 4; ++c)  // 300 / 4 from the pool: hypergeometric with standard deviation 6.5
        EXPECT_NEAR(counts[c], (c == k ? 300 : 0) + 75, 30);
    }
  }
}

TEST(LabelSortPartition, ClientsDifferByAtMostTwoExamplesForAnySizes) {
  for (int64_t seed = 0; seed < 200; ++seed) {
    KeyedRandom random(seed, Purpose::partition);
    std::vector<int64_t> train(1 + random.below(5));
    for (int64_t& count : train) count = 8 + static_cast<int64_t>(random.below(40));
    const Dataset data(train, std::vector<int64_t>(train.size(), 40));
    Options options = options_for("label-sort", 1 + static_cast<int64_t>(random.below(8)));
    options.label_sort = random.uniform();
    const Partition partition = make_partition(data.examples(), options);
    int64_t fewest = data.rows_of(0);
    int64_t most = 0;
    int64_t all = 0;
    for (const ClientExamples& client : partition.clients) {
      fewest = std::min(fewest, size(client.train));
      most = std::max(most, size(client.train));
      all += size(client.train);
    }
    EXPECT_LE(most - fewest, 2);
    EXPECT_EQ(all, data.rows_of(0));
  }
}

TEST(IidPartition, ClientsDifferByAtMostOneExampleInEveryClass) {
  for (const int64_t examples : {0, 90}) {
    Options options = options_for("iid", 7);
    options.examples_per_client = examples;
    const Partition partition = make_partition(skewed().examples(), options);
    for (int c = 0; c < 6; ++c) {
      std::vector<int64_t> counts;
      for (const ClientExamples& client : partition.clients)
        counts.push_back(class_counts(client.train, skewed().labels, 6)[c]);
      EXPECT_LE(
          *std::max_element(counts.begin(), counts.end()) - *std::min_element(counts.begin(), counts.end()),
          1);
    }
  }
}

TEST(PooledPartition, HoldsEverythingInOneClient) {
  const Partition partition = make_partition(two_classes().examples(), options_for("pooled", 1));
  EXPECT_EQ(size(partition.clients[0].train), 5400);
  EXPECT_EQ(size(partition.clients[0].test), 370);
  EXPECT_EQ(size(partition.clients[0].validation), 190);
  EXPECT_THAT(message_of(two_classes(), options_for("pooled", 2)), HasSubstr("--clients 1"));
}

}  // namespace
}  // namespace pf2lora
