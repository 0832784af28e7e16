// The shards, quantity and field partitions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "partition_fixture.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<int64_t> train_sizes(const Partition& partition) {
  std::vector<int64_t> sizes;
  for (const ClientExamples& client : partition.clients) sizes.push_back(size(client.train));
  return sizes;
}

// McMahan et al. 2017: 100 clients with two of 200 shards of 300 digits.
TEST(ShardsPartition, GivesTwoShardsOfThePaperToEachOfAHundredClients) {
  const Dataset data(std::vector<int64_t>(10, 6000), std::vector<int64_t>(10, 1000));
  const Partition partition = make_partition(data.examples(), options_for("shards", 100));
  for (const ClientExamples& client : partition.clients) {
    EXPECT_EQ(size(client.train), 600);
    for (const int64_t count : class_counts(client.train, data.labels, 10))
      EXPECT_TRUE(count == 0 || count == 300 || count == 600) << count;
    EXPECT_NEAR(size(client.test), 100, 2);
  }
}

// Four shards of each of four classes for eight clients: the second shard of a client is of the class of its
// first with probability 3 / 15.
TEST(ShardsPartition, DealsShardsAtRandom) {
  int same = 0;
  constexpr int seeds = 300;
  for (int64_t seed = 0; seed < seeds; ++seed) {
    Options options = options_for("shards", 8);
    options.seed = seed;
    for (const ClientExamples& client : make_partition(balanced().examples(), options).clients)
      same += classes_held(balanced(), client.train) == 1;
  }
  const double deviation = std::sqrt(0.2 * 0.8 / (8 * seeds));
  EXPECT_NEAR(static_cast<double>(same) / (8 * seeds), 0.2, 4 * deviation);
}

// A contiguous slice meets one class more than it crosses borders, and there are classes - 1 borders.
TEST(ShardsPartition, CutsContiguousShardsOfEqualSizeForAnySizes) {
  for (int64_t seed = 0; seed < 200; ++seed) {
    KeyedRandom random(seed, Purpose::partition);
    std::vector<int64_t> train(1 + random.below(6));
    for (int64_t& count : train) count = 20 + static_cast<int64_t>(random.below(60));
    const Dataset data(train, std::vector<int64_t>(train.size(), 60));
    Options options = options_for("shards", 1 + static_cast<int64_t>(random.below(8)));
    options.seed = seed;
    options.shards_per_client = 1 + static_cast<int64_t>(random.below(3));
    options.examples_per_client = seed % 2 == 0 ? 0 : data.rows_of(0) / options.clients - 1;
    const Partition partition = make_partition(data.examples(), options);
    const std::vector<int64_t> sizes = train_sizes(partition);
    EXPECT_LE(*std::max_element(sizes.begin(), sizes.end()) - *std::min_element(sizes.begin(), sizes.end()),
              1);
    EXPECT_EQ(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}),
              seed % 2 == 0 ? data.rows_of(0) : options.clients * options.examples_per_client);
    int64_t held = 0;
    for (const ClientExamples& client : partition.clients) held += classes_held(data, client.train);
    EXPECT_LE(held, options.clients * options.shards_per_client + data.classes - 1);
  }
}

TEST(ShardsPartition, RefusesMoreShardsThanExamples) {
  Options options = options_for("shards", 8);
  options.shards_per_client = 21;
  options.examples_per_client = 20;
  EXPECT_THAT(message_of(balanced(), options),
              AllOf(HasSubstr("--shards-per-client 21"), HasSubstr("20 training examples of a client")));
  options.shards_per_client = 20;
  EXPECT_NO_THROW(make_partition(balanced().examples(), options));
}

// E[p^2] = (a + 1) / (K (K a + 1)) for Dirichlet(a) over K clients.
TEST(QuantityPartition, SizesHaveTheMomentsOfTheDistribution) {
  const Dataset data({2000, 2000}, {200, 200});
  for (const double alpha : {0.5, 2.0, 20.0}) {
    double second = 0;
    double fourth = 0;
    constexpr int seeds = 500;
    for (int64_t seed = 0; seed < seeds; ++seed) {
      Options options = options_for("quantity", 4);
      options.seed = seed;
      options.quantity_alpha = alpha;
      const double p = static_cast<double>(train_sizes(make_partition(data.examples(), options))[1]) / 4000;
      second += p * p / seeds;
      fourth += p * p * p * p / seeds;
    }
    const double expected = (alpha + 1) / (4 * (4 * alpha + 1));
    EXPECT_NEAR(second, expected, 4 * std::sqrt((fourth - second * second) / seeds) + 1e-3) << alpha;
  }
}

TEST(QuantityPartition, GivesEveryClientTheSameClassProportions) {
  for (const double alpha : {1e-3, 0.5, 100.0})
    for (int64_t seed = 0; seed < 30; ++seed) {
      Options options = options_for("quantity", 7);
      options.seed = seed;
      options.quantity_alpha = alpha;
      options.min_examples = 20;
      const Partition partition = make_partition(skewed().examples(), options);
      for (const ClientExamples& client : partition.clients) {
        const auto counts = class_counts(client.train, skewed().labels, 6);
        const auto part = static_cast<double>(client.train.size()) / 4000;
        const std::vector<double> all = {2000, 900, 700, 300, 60, 40};
        // Each end of a class is off by less than one turn of this client, and by its part of one turn each
        // of the other six.
        for (int c = 0; c < 6; ++c) EXPECT_NEAR(counts[c], part * all[c], 2 * (1 + 6 * part)) << c;
      }
    }
}

// The clients with few examples get classes at random, not all the same: over many of them the counts are
// those of the whole.
TEST(QuantityPartition, SmallClientsTogetherHaveTheProportionsOfTheWhole) {
  const Dataset data({5000, 3000, 1500, 500}, {500, 300, 150, 50});
  Options options = options_for("quantity", 101);
  options.quantity_alpha = 1e-3;
  options.min_examples = 3;
  const Partition partition = make_partition(data.examples(), options);
  std::vector<int64_t> counts(4);
  int64_t total = 0;
  for (const ClientExamples& client : partition.clients) {
    if (size(client.train) > 3) continue;
    total += size(client.train);
    for (const int64_t row : client.train) ++counts[data.labels[row]];
  }
  ASSERT_GE(total, 290);
  const std::vector<double> shares = {0.5, 0.3, 0.15, 0.05};
  for (int c = 0; c < 4; ++c)
    EXPECT_NEAR(static_cast<double>(counts[c]) / static_cast<double>(total), shares[c],
                4 * std::sqrt(shares[c] * (1 - shares[c]) / static_cast<double>(total)));
}

TEST(QuantityPartition, RaisesTheSmallestClientsAndKeepsTheProportionsOfTheOthers) {
  for (int64_t seed = 0; seed < 30; ++seed) {
    Options options = options_for("quantity", 8);
    options.seed = seed;
    const std::vector<int64_t> drawn = train_sizes(make_partition(balanced().examples(), options));
    options.min_examples = 100;
    const Partition partition = make_partition(balanced().examples(), options);
    const std::vector<int64_t> raised = train_sizes(partition);
    EXPECT_EQ(std::accumulate(raised.begin(), raised.end(), int64_t{0}), 2400);
    int64_t at_floor = 0, rest = 0, rest_drawn = 0;
    for (int k = 0; k < 8; ++k) {
      EXPECT_GE(raised[k], 100);
      at_floor += raised[k] == 100;
      if (raised[k] > 100) rest += raised[k], rest_drawn += drawn[k];
    }
    const double growth = static_cast<double>(rest) / static_cast<double>(rest_drawn);
    for (int k = 0; k < 8; ++k) {
      EXPECT_NEAR(raised[k], raised[k] > 100 ? growth * static_cast<double>(drawn[k]) : 100, 2);
    }
    if (at_floor > 0) {
      EXPECT_THAT(partition.notes, Contains(AllOf(HasSubstr("of 8 clients"), HasSubstr("--min-examples"))));
    }
  }
}

TEST(QuantityPartition, TakesExamplesPerClientForTheMean) {
  Options options = options_for("quantity", 6);
  options.examples_per_client = 150;
  options.test_examples_per_client = 40;
  const Partition partition = make_partition(skewed().examples(), options);
  const std::vector<int64_t> sizes = train_sizes(partition);
  EXPECT_EQ(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}), 900);
  EXPECT_GT(*std::max_element(sizes.begin(), sizes.end()), 200);
  for (const ClientExamples& client : partition.clients) EXPECT_EQ(size(client.test), 40);
  options.examples_per_client = 9;
  options.min_examples = 10;
  EXPECT_THAT(message_of(skewed(), options), AllOf(HasSubstr("--examples-per-client 9"), HasSubstr("10")));
}

// Rows of three writers, as many of class 0 as of class 1: train and test rows of each.
Dataset three_writers(const std::vector<int64_t>& train, const std::vector<int64_t>& test) {
  Dataset data({}, {});
  data.classes = 2;
  data.client_names = {"ann", "bob", "cy"};
  for (int32_t name = 0; name < 3; ++name)
    for (const auto& [rows, part] : {std::pair{train[name], 0}, std::pair{test[name], 2}})
      for (int64_t i = 0; i < rows; ++i) {
        data.labels.push_back(static_cast<int32_t>(i % 2));
        data.split.push_back(static_cast<int8_t>(part));
        data.client.push_back(name);
      }
  return data;
}

TEST(FieldPartition, GivesEachClientAllRowsOfItsName) {
  const Dataset data = three_writers({100, 60, 200}, {20, 10, 40});
  const Partition partition = make_partition(data.examples(), options_for("field", 3));
  EXPECT_EQ(train_sizes(partition), (std::vector<int64_t>{100, 60, 200}));
  for (int k = 0; k < 3; ++k) {
    EXPECT_EQ(size(partition.clients[k].test), (std::vector<int64_t>{20, 10, 40})[k]);
    EXPECT_EQ(data.client[partition.clients[k].train.front()], k);
  }
  check(data, options_for("field", 3), partition, "three writers");
  EXPECT_THAT(partition.notes, IsEmpty());
}

TEST(FieldPartition, TakesTheLargestClientsAndNamesThem) {
  const Dataset data = three_writers({100, 60, 200}, {20, 10, 40});
  const Partition partition = make_partition(data.examples(), options_for("field", 2));
  EXPECT_EQ(train_sizes(partition), (std::vector<int64_t>{100, 200}));
  EXPECT_THAT(partition.notes, Contains(AllOf(HasSubstr("2 largest of 3 clients"), HasSubstr("300 of 360"),
                                              HasSubstr("ann, cy"))));
}

TEST(FieldPartition, SaysHowManyClientsThereAre) {
  const Dataset data = three_writers({100, 60, 0}, {20, 10, 40});  // cy has nothing to train on
  EXPECT_THAT(message_of(data, options_for("field", 3)),
              AllOf(HasSubstr("--clients 3"), HasSubstr("set --clients 2 or fewer")));
  Dataset nameless = data;
  nameless.client.clear();
  EXPECT_THROW(make_partition(nameless.examples(), options_for("field", 2)), InputError);
  EXPECT_NO_THROW(make_partition(nameless.examples(), options_for("iid", 2)));
  for (const int32_t wrong : {-1, 3}) {
    Dataset damaged = data;
    damaged.client[5] = wrong;
    EXPECT_THROW(make_partition(damaged.examples(), options_for("field", 2)), InputError);
  }
}

TEST(FieldPartition, SetsAShareOfTheRowsAsideWhereThereAreNoTestRows) {
  for (const bool others_have : {false, true}) {
    const Dataset data = three_writers({100, 60, 200}, {others_have ? 20 : 0, 0, others_have ? 40 : 0});
    Options options = options_for("field", 3);
    options.test_share = 0.25;
    const Partition partition = make_partition(data.examples(), options);
    check(data, options, partition, "no test rows");
    EXPECT_EQ(train_sizes(partition),
              (others_have ? std::vector<int64_t>{100, 45, 200} : std::vector<int64_t>{75, 45, 150}));
    EXPECT_EQ(size(partition.clients[1].test), 15);
    EXPECT_THAT(partition.notes, Contains(AllOf(HasSubstr(others_have ? "1 of 3 clients" : "3 of 3 clients"),
                                                HasSubstr("--test-share 0.25"))));
    options.test_examples_per_client = 8;
    const Partition eight = make_partition(data.examples(), options);
    for (const ClientExamples& client : eight.clients) EXPECT_EQ(size(client.test), 8);
    EXPECT_EQ(size(eight.clients[1].train), 52);
    if (others_have) {
      options.test_examples_per_client = 35;
      const Partition many = make_partition(data.examples(), options);
      EXPECT_EQ(size(many.clients[0].test), 20);
      EXPECT_EQ(size(many.clients[1].test), 35);
      EXPECT_EQ(size(many.clients[2].test), 35);
      EXPECT_THAT(many.notes, Contains(HasSubstr("--test-examples-per-client 35 for 1 of 3 clients")));
      options.clients = 1;
      options.test_examples_per_client = std::numeric_limits<int64_t>::max();
      EXPECT_EQ(size(make_partition(data.examples(), options).clients[0].test), 40);
    }
  }
}

// Ann trains on both classes alike; test rows of one class alone, or of both in other numbers, are not hers.
TEST(FieldPartition, KeepsTheProportionsOfTraining) {
  Dataset data = three_writers({100, 60, 200}, {40, 10, 40});
  for (std::size_t i = 0; i < data.labels.size(); ++i)
    if (data.client[i] == 0 && data.split[i] == 2) data.labels[i] = i % 4 == 0;  // 10 of 40 rows of class 1
  Options options = options_for("field", 3);
  const Partition partition = make_partition(data.examples(), options);
  check(data, options, partition, "ten of forty");
  EXPECT_NEAR(size(partition.clients[0].test), 20, 1);
  EXPECT_THAT(partition.notes, Contains(HasSubstr("test rows are left out")));

  for (std::size_t i = 0; i < data.labels.size(); ++i)
    if (data.client[i] == 0 && data.split[i] == 2) data.labels[i] = 0;
  const Partition own = make_partition(data.examples(), options);
  check(data, options, own, "one class");
  EXPECT_EQ(train_sizes(own), (std::vector<int64_t>{80, 60, 200}));
  EXPECT_EQ(size(own.clients[0].test), 20);
}

TEST(FieldPartition, SharesTheDatasetsValidationRowsOutByName) {
  Dataset data = three_writers({100, 60, 200}, {20, 10, 40});
  for (std::size_t i = 0; i < data.split.size(); ++i)
    if (data.split[i] == 0 && i % 10 < 2) data.split[i] = 1;
  Options options = options_for("field", 3);
  const Partition partition = make_partition(data.examples(), options);
  check(data, options, partition, "validation rows");
  EXPECT_EQ(size(partition.clients[0].validation), 20);
  EXPECT_EQ(size(partition.clients[2].validation), 40);
}

TEST(FieldPartition, NamesTheClientThatHasTooFewRows) {
  const Dataset data = three_writers({100, 6, 200}, {20, 10, 40});
  Options options = options_for("field", 3);
  options.min_examples = 7;
  EXPECT_THAT(message_of(data, options), AllOf(HasSubstr("'bob'"), HasSubstr("6 training rows"),
                                               HasSubstr("--min-examples 7"), HasSubstr("--clients")));
  options.min_examples = 6;
  options.validation_share = 0.1;
  EXPECT_THAT(message_of(data, options), AllOf(HasSubstr("'bob'"), HasSubstr("--validation-share")));
  options.validation_share = 0;
  options.examples_per_client = 50;
  EXPECT_THAT(message_of(data, options), AllOf(HasSubstr("'bob'"), HasSubstr("--examples-per-client 50")));
  options.clients = 2;
  EXPECT_EQ(train_sizes(make_partition(data.examples(), options)), (std::vector<int64_t>{50, 50}));

  const Dataset alone = three_writers({100, 1, 200}, {0, 0, 0});
  EXPECT_THAT(message_of(alone, options_for("field", 3)),
              AllOf(HasSubstr("'bob'"), HasSubstr("1 training rows")));
  options = options_for("field", 3);
  options.test_examples_per_client = 100;
  EXPECT_THAT(message_of(alone, options),
              AllOf(HasSubstr("'ann'"), HasSubstr("--test-examples-per-client 100")));
  EXPECT_THROW(make_partition(three_writers({0, 0, 0}, {5, 5, 5}).examples(), options_for("field", 1)),
               InputError);
}

}  // namespace
}  // namespace pf2lora
