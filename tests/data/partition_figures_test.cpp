#include "data/partition_figures.h"

#include <gtest/gtest.h>

#include <cmath>

#include "partition_fixture.h"

namespace pf2lora {
namespace {

using Numbers = std::vector<int64_t>;

TEST(LabelEntropy, IsInNats) {
  EXPECT_DOUBLE_EQ(label_entropy(Numbers{5, 5}), std::log(2));
  EXPECT_DOUBLE_EQ(label_entropy(Numbers{0, 7, 0}), 0);
  EXPECT_NEAR(label_entropy(Numbers{6, 2}), 0.5623351446188083, 1e-15);  // scipy.stats.entropy
  EXPECT_EQ(label_entropy(Numbers{0, 0}), 0);
}

// Numbers of scipy.spatial.distance.jensenshannon with base 2.
TEST(LabelDistance, IsTheRootOfTheDivergenceInBits) {
  EXPECT_NEAR(label_distance(Numbers{1, 1, 0}, Numbers{1, 1, 2}), 0.5579230452841438, 1e-12);
  EXPECT_NEAR(label_distance(Numbers{6, 2, 0}, Numbers{1, 3, 4}), 0.6616049414893663, 1e-12);
  EXPECT_NEAR(label_distance(Numbers{3, 0}, Numbers{0, 9}), 1, 1e-15);
  EXPECT_NEAR(label_distance(Numbers{1, 2, 3}, Numbers{10, 20, 30}), 0, 1e-7);
  EXPECT_TRUE(std::isnan(label_distance(Numbers{1, 2}, Numbers{0, 0})));
}

TEST(PartitionFigures, AreThoseOfTheTrainingLabels) {
  Partition partition;
  partition.labels = {0, 0, 1, 0, 0, 0, 0, 1, 2, 2, 1, 2, 1, 0, 2, 1};
  // Classes of the training rows: 6, 2, 0 of client 0 and 1, 3, 4 of client 1; 7, 5, 4 of both.
  partition.clients = {{{0, 1, 2, 3, 4, 5, 6, 7}, {}, {0, 1, 2}}, {{8, 9, 10, 11, 12, 13, 14, 15}, {3}, {4}}};
  partition.label_maps = {{0, 1, 2}, {1, 2, 0}};
  const PartitionFigures figures = partition_figures(partition, 3);
  ASSERT_EQ(figures.clients.size(), 2u);
  const ClientFigures& first = figures.clients[0];
  const ClientFigures& second = figures.clients[1];
  EXPECT_EQ((Numbers{first.train, first.validation, first.test, first.classes}), (Numbers{8, 0, 3, 2}));
  EXPECT_EQ((Numbers{second.train, second.validation, second.test, second.classes}), (Numbers{8, 1, 1, 3}));
  EXPECT_NEAR(first.label_entropy, 0.5623351446188083, 1e-15);
  EXPECT_NEAR(second.label_entropy, 0.9743147528693494, 1e-15);
  EXPECT_DOUBLE_EQ(first.majority, 0.75);
  EXPECT_DOUBLE_EQ(second.majority, 0.5);
  EXPECT_FALSE(first.permuted);
  EXPECT_TRUE(second.permuted);
  EXPECT_NEAR(figures.mean_label_distance, (0.3968913252187625 + 0.31465641512420045) / 2, 1e-12);
}

TEST(PartitionFigures, ConflictMovesIidClientsApart) {
  Options options = options_for("iid", 6);
  const double alike = partition_figures(make_partition(skewed().examples(), options), 6).mean_label_distance;
  EXPECT_LT(alike, 0.01);
  options.label_conflict = 0.5;
  const PartitionFigures figures = partition_figures(make_partition(skewed().examples(), options), 6);
  EXPECT_GT(figures.mean_label_distance, 0.2);
  for (const ClientFigures& client : figures.clients) EXPECT_NEAR(client.majority, 0.5, 0.01);
}

}  // namespace
}  // namespace pf2lora
