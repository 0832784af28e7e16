#include "data/partition.h"

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

TEST(Partition, KeepsItsPromisesForEverySeedAlphaAndSize) {
  int made = 0;
  for (const Dataset* data : {&balanced(), &skewed(), &two_classes()})
    for (const std::string& name : kPartitions)
      for (const double heterogeneity : {1e-3, 1e-2, 0.1, 1.0, 30.0, 1e3})
        for (const auto& [examples, tests] :
             std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {100, 0}, {100, 20}})
          for (int64_t seed = 0; seed < 12; ++seed) {
            Options options = options_for(name, 7);
            options.seed = seed;
            options.dirichlet_alpha = options.quantity_alpha = heterogeneity;
            options.shards_per_client = heterogeneity < 0.1 ? 1 : heterogeneity < 1e3 ? 2 : 40;
            options.label_conflict = seed % 3 == 0 ? 0.4 : 0;
            options.label_sort = std::min(heterogeneity, 1.0);
            options.examples_per_client = examples;
            options.test_examples_per_client = tests;
            if (name == "quantity" && examples > 0)
              options.examples_per_client = 0;  // a mean: see its own tests
            const std::string what = name + " " + std::to_string(heterogeneity) + " examples " +
                                     std::to_string(examples) + "/" + std::to_string(tests) + " seed " +
                                     std::to_string(seed) + " classes " + std::to_string(data->classes);
            try {
              check(*data, options, make_partition(data->examples(), options), what);
              ++made;
            } catch (const OptionError& error) {
              // Only where every training row is shared out by a tiny alpha can a client be left without any.
              EXPECT_TRUE(name == "dirichlet" && examples == 0 && heterogeneity < 1) << what << error.what();
              EXPECT_THAT(error.what(), HasSubstr("--examples-per-client"));
            }
          }
  EXPECT_GT(made, 3600);
}

// 24 classes of falling size, 20,000 training and 8,000 test rows.
TEST(Partition, KeepsItsPromisesForAThousandClientsAndForOne) {
  std::vector<int64_t> train, test;
  for (int64_t c = 0; c < 24; ++c) {
    train.push_back(1500 - 58 * c);
    test.push_back(train.back() * 2 / 5);
  }
  Dataset data(train, test);
  KeyedRandom random(7, Purpose::partition);
  data.client_names.clear();
  for (int name = 0; name < 1200; ++name) data.client_names.push_back(std::to_string(name));
  for (int32_t& client : data.client) client = static_cast<int32_t>(random.below(1200));
  for (const std::string& name : kPartitions)
    for (const int64_t clients : {1, 1000}) {
      Options options = options_for(name, clients);
      options.dirichlet_alpha = 100;  // all rows are shared out, and every client must get enough
      options.validation_share = 0.1;
      options.label_conflict = 1;
      options.min_examples = 5;
      if (clients == 1 && name != "field") {  // holds all test rows, in whatever proportions they are
        const Partition partition = make_partition(data.examples(), options);
        EXPECT_EQ(size(partition.clients[0].train) + size(partition.clients[0].validation), data.rows_of(0));
        EXPECT_EQ(size(partition.clients[0].test), data.rows_of(2));
        check_labels(data, options, partition);
        continue;
      }
      check(data, options, make_partition(data.examples(), options), name + " " + std::to_string(clients));
      options.examples_per_client = name == "quantity" ? 0 : 6;
      options.min_examples = 5;
      check(data, options, make_partition(data.examples(), options), name + " with six examples each");
    }
}

TEST(Partition, GivesHeldOutClientsWhatItGivesTheOthers) {
  for (const std::string& name : kPartitions) {
    Options options = options_for(name, 6);
    options.dirichlet_alpha = 10;
    options.validation_share = 0.1;
    options.label_conflict = 0.5;
    const Partition all_train = make_partition(balanced().examples(), options);
    options.held_out_clients = 3;
    const Partition partition = make_partition(balanced().examples(), options);
    check(balanced(), options, partition, name);
    EXPECT_EQ(partition.label_maps, all_train.label_maps);
    for (int k = 0; k < 6; ++k) {
      EXPECT_EQ(partition.clients[k].train, all_train.clients[k].train);
      EXPECT_EQ(partition.clients[k].validation, all_train.clients[k].validation);
      EXPECT_EQ(partition.clients[k].test, all_train.clients[k].test);
    }
  }
}

TEST(Partition, IsAFunctionOfSeedAndOptionsAlone) {
  for (const std::string& name : kPartitions) {
    Options options = options_for(name, 5);
    options.label_conflict = 0.6;
    options.examples_per_client = 60;
    const Partition a = make_partition(skewed().examples(), options);
    const Partition b = make_partition(skewed().examples(), options);
    options.seed = 2;
    const Partition c = make_partition(skewed().examples(), options);
    bool differs = false;
    for (int k = 0; k < 5; ++k) {
      EXPECT_EQ(a.clients[k].train, b.clients[k].train);
      EXPECT_EQ(a.clients[k].test, b.clients[k].test);
      differs = differs || a.clients[k].train != c.clients[k].train;
    }
    EXPECT_EQ(a.notes, b.notes);
    EXPECT_EQ(a.label_maps, b.label_maps);
    EXPECT_EQ(a.labels, b.labels);
    EXPECT_NE(a.label_maps, c.label_maps);
    EXPECT_TRUE(differs) << name;
  }
}

TEST(Partition, SharesOutEveryTrainingRowAndNearlyEveryTestRowWithoutSizes) {
  for (const std::string name : {"dirichlet", "label-sort", "shards", "quantity", "iid"})
    for (int64_t seed = 0; seed < 20; ++seed) {
      Options options = options_for(name, 6);
      options.seed = seed;
      options.dirichlet_alpha = 0.5;
      const Partition partition = make_partition(balanced().examples(), options);
      int64_t train = 0;
      int64_t test = 0;
      for (const ClientExamples& client : partition.clients) {
        train += size(client.train);
        test += size(client.test);
        const double share = static_cast<double>(client.train.size()) / 2400;
        EXPECT_NEAR(static_cast<double>(client.test.size()), share * 1200, 4);
      }
      EXPECT_EQ(train, 2400);
      EXPECT_GE(test, 1200 - 4 * 6);
    }
}

TEST(Partition, MeetsBothSizesExactlyWhenBothAreGiven) {
  for (int64_t seed = 0; seed < 40; ++seed) {
    Options options = options_for("dirichlet", 6);
    options.seed = seed;
    options.examples_per_client = 150;
    options.test_examples_per_client = 60;
    const Partition partition = make_partition(skewed().examples(), options);
    for (const ClientExamples& client : partition.clients) {
      EXPECT_EQ(size(client.train), 150);
      EXPECT_EQ(size(client.test), 60);
      EXPECT_LE(distance(skewed(), client.train, client.test),
                0.5 * static_cast<double>(classes_held(skewed(), client.train)) / 60);
    }
  }
}

// The test pool is 10% class 0, the training sets 50%: the client's prior counts, not the pool's.
TEST(Partition, TestSetsFollowTheClientWhereTheTestPoolHasOtherProportions) {
  const Dataset data({1000, 1000}, {100, 900});
  for (const int64_t examples : {0, 200}) {
    Options options = options_for("iid", 4);
    options.examples_per_client = examples;
    const Partition partition = make_partition(data.examples(), options);
    for (const ClientExamples& client : partition.clients) {
      EXPECT_NEAR(size(client.test), 50, 4);
      EXPECT_LE(distance(data, client.train, client.test), kProportionTolerance + 2.0 / 50);
    }
    EXPECT_THAT(partition.notes, Contains(HasSubstr("test sets smaller than their share")));
  }
}

TEST(Partition, LeavesClassesWithoutTestRowsOutOfTheTestProportionsAndSaysSo) {
  const Dataset data({100, 300, 100}, {100, 100, 0});
  const Partition partition = make_partition(data.examples(), options_for("iid", 2));
  EXPECT_THAT(partition.notes, Contains(HasSubstr("100 training examples are of classes without test rows")));
  for (const ClientExamples& client : partition.clients) {
    const auto counts = class_counts(client.test, data.labels, 3);
    EXPECT_NEAR(static_cast<double>(counts[0]) / static_cast<double>(client.test.size()), 0.25, 0.03);
  }
}

TEST(ValidationRows, AreTakenFromTheClientsTrainingRowsByClass) {
  for (int64_t seed = 0; seed < 20; ++seed)
    for (const double share : {0.1, 0.25, 0.9}) {
      Options options = options_for("dirichlet", 5);
      options.seed = seed;
      options.dirichlet_alpha = 0.5;
      options.examples_per_client = 200;
      const Partition whole = make_partition(skewed().examples(), options);
      options.validation_share = share;
      const Partition partition = make_partition(skewed().examples(), options);
      check(skewed(), options, partition, "share " + std::to_string(share));
      for (int k = 0; k < 5; ++k) {
        const ClientExamples& client = partition.clients[k];
        EXPECT_EQ(size(client.validation), std::llround(share * 200));
        std::vector<int64_t> both;
        std::merge(client.train.begin(), client.train.end(), client.validation.begin(),
                   client.validation.end(), std::back_inserter(both));
        EXPECT_EQ(both, whole.clients[k].train);  // the same client, split further
        EXPECT_EQ(client.test, whole.clients[k].test);
        const auto all = class_counts(both, skewed().labels, 6);
        const auto held = class_counts(client.validation, skewed().labels, 6);
        for (int c = 0; c < 6; ++c)
          EXPECT_LT(std::abs(static_cast<double>(held[c]) - share * static_cast<double>(all[c])), 1);
      }
    }
}

TEST(ValidationRows, AreAtLeastOneOfEveryClientAndLeaveTheSmallestAllowedTrainingSet) {
  for (const std::string& name : kPartitions)
    for (const double share : {1e-3, 0.3, 0.9})
      for (int64_t seed = 0; seed < 10; ++seed) {
        Options options = options_for(name, 9);
        options.seed = seed;
        options.dirichlet_alpha = options.quantity_alpha = 1;
        options.validation_share = share;
        options.min_examples = 15;
        check(balanced(), options, make_partition(balanced().examples(), options),
              name + " share " + std::to_string(share));
      }
}

TEST(ValidationRows, AreRefusedWhereAClientHasTooFewExamples) {
  const Dataset data({20, 20}, {20, 20});
  Options options = options_for("iid", 40);
  options.validation_share = 0.1;
  EXPECT_THAT(message_of(data, options), AllOf(HasSubstr("--clients 40"), HasSubstr("--validation-share 0.1"),
                                               HasSubstr("40 training")));
  options.clients = 20;  // two rows each: one to train, one to validate
  check(data, options, make_partition(data.examples(), options), "two rows each");
  options.min_examples = 2;
  EXPECT_THAT(message_of(data, options),
              AllOf(HasSubstr("--min-examples 2"), HasSubstr("--validation-share")));
}

TEST(ValidationRows, OfTheDatasetAreSharedOutOnlyWithoutAValidationShare) {
  Options options = options_for("iid", 5);
  const Partition shared = make_partition(two_classes().examples(), options);
  for (const ClientExamples& client : shared.clients) {
    EXPECT_NEAR(size(client.validation), 38, 3);
    for (const int64_t row : client.validation) EXPECT_EQ(two_classes().split[row], 1);
  }
  options.validation_share = 0.2;
  const Partition own = make_partition(two_classes().examples(), options);
  for (const ClientExamples& client : own.clients)
    for (const int64_t row : client.validation) EXPECT_EQ(two_classes().split[row], 0);
  EXPECT_THAT(own.notes, Contains(HasSubstr("190 validation rows are left out")));
}

// Each example of a dataset again as one to three rows, which lie apart.
TEST(PartitionOfItems, GivesTheirRowsToTheClientThatWouldHoldThem) {
  const Dataset& wholes = balanced();
  std::vector<int64_t> of_row;
  for (const int64_t part : {0, 1, 2})
    for (int64_t i = 0; i < static_cast<int64_t>(wholes.labels.size()); ++i)
      if (part <= i % 3) of_row.push_back(i);
  std::vector<int32_t> labels, client, item;
  std::vector<int8_t> split;
  for (const int64_t i : of_row) {
    labels.push_back(wholes.labels[i]);
    split.push_back(wholes.split[i]);
    client.push_back(wholes.client[i]);
    item.push_back(static_cast<int32_t>(i));
  }
  const Examples parts{labels, split, wholes.classes, client, wholes.client_names, item};
  for (const std::string& name : kPartitions) {
    Options options = options_for(name, 7);
    options.validation_share = 0.1;
    const Partition expected = make_partition(wholes.examples(), options);
    const Partition found = make_partition(parts, options);
    EXPECT_EQ(found.labels, labels);
    EXPECT_EQ(found.notes, expected.notes);
    for (int64_t k = 0; k < options.clients; ++k)
      for (const auto rows : {&ClientExamples::train, &ClientExamples::validation, &ClientExamples::test}) {
        const std::vector<int64_t>& held = expected.clients[k].*rows;
        std::vector<int64_t> wanted;
        for (size_t row = 0; row < of_row.size(); ++row)
          if (std::binary_search(held.begin(), held.end(), of_row[row]))
            wanted.push_back(static_cast<int64_t>(row));
        EXPECT_EQ(found.clients[k].*rows, wanted) << name << " client " << k;
      }
  }
  split.back() = 1 - split.back() / 2;
  EXPECT_THROW(make_partition(parts, options_for("iid", 7)), InputError);
}

TEST(PartitionErrors, NameTheOptionsToChange) {
  const Dataset data({20, 20}, {10, 10});
  Options options = options_for("iid", 50);
  EXPECT_THAT(message_of(data, options), AllOf(HasSubstr("--clients 50"), HasSubstr("40 training examples")));
  options.clients = 30;
  EXPECT_THAT(message_of(data, options), AllOf(HasSubstr("--clients 30"), HasSubstr("20 test examples")));
  options.clients = 4;
  options.min_examples = 11;
  EXPECT_THAT(message_of(data, options), AllOf(HasSubstr("--min-examples 11"), HasSubstr("--clients 4")));
  options.examples_per_client = 5;
  EXPECT_THAT(message_of(data, options),
              AllOf(HasSubstr("--examples-per-client 5"), HasSubstr("--min-examples 11")));
  options.min_examples = 1;
  options.examples_per_client = 11;
  EXPECT_THAT(message_of(data, options),
              AllOf(HasSubstr("--examples-per-client 11"), HasSubstr("at most 10")));
  options.examples_per_client = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(message_of(data, options), HasSubstr("at most 10"));
  options.examples_per_client = 10;
  options.test_examples_per_client = 6;
  EXPECT_THAT(message_of(data, options),
              AllOf(HasSubstr("--test-examples-per-client 6"), HasSubstr("at most 5")));
  options.test_examples_per_client = 0;
  options.min_examples = 10;
  options.validation_share = 0.5;
  EXPECT_THAT(message_of(data, options),
              AllOf(HasSubstr("--min-examples 10"), HasSubstr("--validation-share")));
  options.partition = "dirichlect";
  EXPECT_THAT(message_of(data, options), AllOf(HasSubstr("dirichlect"), HasSubstr("label-sort")));
}

TEST(PartitionErrors, RefuseTestSizesThatNoProportionsCanMeet) {
  const Dataset data({100, 10}, {1, 99});  // 2 x 25 training rows in all: at least 40 of class 0
  Options options = options_for("dirichlet", 2);
  options.examples_per_client = 25;
  options.test_examples_per_client = 25;
  EXPECT_THAT(message_of(data, options), HasSubstr("--test-examples-per-client 25"));
}

TEST(PartitionErrors, RefuseUnusableColumns) {
  const Options options = options_for("iid", 1);
  EXPECT_THROW(make_partition(Dataset({5, 5}, {0, 0}).examples(), options), InputError);
  EXPECT_THROW(make_partition(Dataset({0, 0}, {5, 5}).examples(), options), InputError);
  Dataset data({5, 5}, {5, 5});
  data.labels[3] = 2;
  EXPECT_THROW(make_partition(data.examples(), options), InputError);
  data.labels[3] = -1;
  EXPECT_THROW(make_partition(data.examples(), options), InputError);
  data.labels[3] = 1;
  data.split[3] = 3;
  EXPECT_THROW(make_partition(data.examples(), options), InputError);
  data.split.pop_back();
  EXPECT_THROW(make_partition(data.examples(), options), InputError);
}

TEST(PartitionNames, AreTheOnesThatCanBeMade) {
  std::vector<std::string> names;
  for (const PartitionName& row : partition_names()) {
    names.emplace_back(row.name);
    EXPECT_FALSE(row.description.empty());
    EXPECT_NO_THROW(make_partition(balanced().examples(), options_for(names.back(), 1)));
  }
  EXPECT_EQ(names, (std::vector<std::string>{"dirichlet", "label-sort", "shards", "quantity", "field", "iid",
                                             "pooled"}));
}

TEST(MajorityClassAccuracy, IsThePartOfTheTestSetInTheMostFrequentTrainingClass) {
  using Counts = std::vector<int64_t>;
  EXPECT_DOUBLE_EQ(majority_class_accuracy(Counts{3, 5, 2}, Counts{6, 3, 1}), 0.3);
  EXPECT_DOUBLE_EQ(majority_class_accuracy(Counts{5, 5, 2}, Counts{6, 3, 1}), 0.6);
  EXPECT_TRUE(std::isnan(majority_class_accuracy(Counts{3, 5}, Counts{0, 0})));
}

TEST(CheckPartitionName, NamesThoseThatThereAre) {
  EXPECT_NO_THROW(check_partition_name("field"));
  try {
    check_partition_name("dirichelet");
    FAIL() << "accepted";
  } catch (const OptionError& error) {
    EXPECT_STREQ(error.what(),
                 "option partition: 'dirichelet' is not known; give one of dirichlet, label-sort, shards, "
                 "quantity, field, iid, pooled; did you mean 'dirichlet'?");
  }
}

}  // namespace
}  // namespace pf2lora
