#include "data/apportion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "core/random.h"

namespace pf2lora {
namespace {

using Numbers = std::vector<int64_t>;

Numbers numbers(std::span<const int64_t> values) {
  return {values.begin(), values.end()};
}
int64_t total(std::span<const int64_t> values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

template <typename T>
Table<T> table(const std::vector<std::vector<T>>& rows) {
  Table<T> result(static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows.front().size()));
  for (std::size_t k = 0; k < rows.size(); ++k)
    std::copy(rows[k].begin(), rows[k].end(), result.row(k).begin());
  return result;
}
Table<double> logs(std::vector<std::vector<double>> weights) {
  for (std::vector<double>& row : weights)
    for (double& weight : row) weight = std::log(weight);
  return table(weights);
}

// The five-party example of the Hamilton method: quotas 4.16, 3.54, 1.54, 0.76 of 10 seats for 416, 354,
// 154, 76.
TEST(LargestRemainder, FollowsHamiltonsMethod) {
  EXPECT_EQ(largest_remainder(Numbers{416, 354, 154, 76}, 10), (Numbers{4, 4, 1, 1}));
  EXPECT_EQ(largest_remainder(Numbers{1, 1, 1}, 5), (Numbers{2, 2, 1}));
  EXPECT_EQ(largest_remainder(Numbers{0, 3, 0}, 7), (Numbers{0, 7, 0}));
  EXPECT_EQ(largest_remainder(Numbers{3, 4}, 0), (Numbers{0, 0}));
}

TEST(LargestRemainder, StaysWithinOneOfEveryShareAndKeepsTheSum) {
  for (int64_t seed = 0; seed < 500; ++seed) {
    KeyedRandom random(seed, Purpose::partition);
    std::vector<double> weights(1 + random.below(30));
    for (double& weight : weights) weight = random.below(5) == 0 ? 0 : std::exp(20 * random.normal());
    weights.front() = 1;
    const auto wanted = static_cast<int64_t>(random.below(100000));
    const Numbers shares = largest_remainder(weights, wanted);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    EXPECT_EQ(total(shares), wanted);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      EXPECT_LT(std::abs(static_cast<double>(shares[i]) - weights[i] / sum * static_cast<double>(wanted)), 1);
      if (weights[i] == 0) {
        EXPECT_EQ(shares[i], 0);
      }
    }
  }
}

TEST(LargestRemainder, RefusesWeightsThatGiveNoProportions) {
  EXPECT_THROW(largest_remainder(std::vector<double>{0, 0}, 1), std::invalid_argument);
  EXPECT_THROW(largest_remainder(std::vector<double>{1, -1}, 1), std::invalid_argument);
  EXPECT_THROW(largest_remainder(std::vector<double>{1, std::nan("")}, 1), std::invalid_argument);
  EXPECT_THROW(largest_remainder(std::vector<double>{1, std::numeric_limits<double>::infinity()}, 1),
               std::invalid_argument);
}

// Shares 5, 5, 10 with a cap of 2 on the last: its other 8 go half and half to the first two.
TEST(CappedLargestRemainder, GivesWhatDoesNotFitToTheOthersInProportion) {
  EXPECT_EQ(capped_largest_remainder(Numbers{5, 5, 10}, Numbers{50, 50, 2}, 20), (Numbers{9, 9, 2}));
  EXPECT_EQ(capped_largest_remainder(Numbers{5, 5, 10}, Numbers{5, 5, 10}, 20), (Numbers{5, 5, 10}));
  EXPECT_THROW(capped_largest_remainder(Numbers{1, 1}, Numbers{2, 2}, 5), std::invalid_argument);
}

TEST(Fill, GivesEveryClientItsProportionsWhenThereIsEnough) {
  Numbers supply = {100, 100, 100};
  const Filled filled = fill(logs({{0.5, 0.25, 0.25}, {0, 0, 1}}), {8, 5}, supply, Numbers{0, 1});
  EXPECT_EQ(numbers(filled.counts.row(0)), (Numbers{4, 2, 2}));
  EXPECT_EQ(numbers(filled.counts.row(1)), (Numbers{0, 0, 5}));
  EXPECT_EQ(filled.moved, 0);
  EXPECT_EQ(supply, (Numbers{96, 98, 93}));
}

// Both want 10 of class 0, of which there are 12: 6 each, whoever is first. The rest falls on each one's own
// second class: client 0 gives it 3 to 1, client 1 only has class 1.
TEST(Fill, CutsAllUsersOfAScarceClassAlikeAndMovesTheRestToTheirOwnClasses) {
  for (const Numbers& priority : {Numbers{0, 1}, Numbers{1, 0}}) {
    Numbers supply = {12, 100, 100};
    const double tiny = 1e-6;
    const Filled filled = fill(logs({{1, 3 * tiny, tiny}, {1, tiny, 0}}), {10, 10}, supply, priority);
    EXPECT_EQ(numbers(filled.counts.row(0)), (Numbers{6, 3, 1}));
    EXPECT_EQ(numbers(filled.counts.row(1)), (Numbers{6, 4, 0}));
    EXPECT_EQ(filled.moved, 8);
    EXPECT_EQ(filled.missing, (Numbers{0, 0}));
  }
}

// exp(-2000) is 0 in double precision; the order of the classes is still the client's own.
TEST(Fill, FallsBackOnWeightsThatUnderflow) {
  Numbers supply = {1, 5, 5};
  const Filled filled = fill(table<double>({{0, -3000, -2000}}), {8}, supply, Numbers{0});
  EXPECT_EQ(numbers(filled.counts.row(0)), (Numbers{1, 2, 5}));
}

TEST(Fill, LeavesNeedsOpenOnlyWhenAClientsClassesAreEmpty) {
  Numbers supply = {3, 100};
  const Filled filled = fill(logs({{1, 0}, {1, 1}}), {4, 4}, supply, Numbers{0, 1});
  EXPECT_EQ(filled.missing[0] + filled.counts.row(0)[0], 4);
  EXPECT_EQ(filled.counts.row(0)[1], 0);
  EXPECT_EQ(filled.missing[1], 0);
  EXPECT_EQ(supply[0], 0);
}

TEST(Fill, EndsWithEveryNeedMetForAnyWeightsWhenTheSupplySuffices) {
  for (int64_t seed = 0; seed < 300; ++seed) {
    KeyedRandom random(seed, Purpose::partition);
    const auto clients = static_cast<int64_t>(1 + random.below(20));
    const auto classes = static_cast<int64_t>(1 + random.below(10));
    const auto need = static_cast<int64_t>(1 + random.below(30));
    const std::vector<double> alpha(classes, std::pow(10, random.uniform(-3, 3)));
    Table<double> weights(clients, classes);
    for (int64_t k = 0; k < clients; ++k) {
      const auto drawn = random.log_dirichlet(alpha);
      std::copy(drawn.begin(), drawn.end(), weights.row(k).begin());
    }
    // Exactly as much as is needed.
    const Numbers before =
        largest_remainder(random.dirichlet(std::vector<double>(classes, 1.0)), clients * need);
    Numbers supply = before;
    Numbers priority(clients);
    std::iota(priority.begin(), priority.end(), 0);
    const Filled filled = fill(weights, Numbers(clients, need), supply, priority);
    EXPECT_EQ(supply, Numbers(classes, 0));
    for (int64_t k = 0; k < clients; ++k) EXPECT_EQ(total(filled.counts.row(k)), need);
    for (int64_t c = 0; c < classes; ++c) {
      int64_t used = 0;
      for (int64_t k = 0; k < clients; ++k) {
        EXPECT_GE(filled.counts.row(k)[c], 0);
        used += filled.counts.row(k)[c];
      }
      EXPECT_EQ(used, before[c]);
    }
  }
}

TEST(FillInProportion, KeepsTheModelsProportions) {
  Numbers supply = {1000, 1000, 1000};
  const Filled filled =
      fill_in_proportion(table<int64_t>({{100, 60, 40}, {0, 1, 199}}), {50, 100}, supply, Numbers{0, 1});
  EXPECT_EQ(numbers(filled.counts.row(0)), (Numbers{25, 15, 10}));
  EXPECT_EQ(total(filled.counts.row(1)), 100);
  EXPECT_GE(filled.counts.row(1)[2], 99);
  EXPECT_EQ(filled.moved, 0);
  EXPECT_EQ(filled.missing, (Numbers{0, 0}));
}

// One class in two is short: 100 examples need 50 of it, there are 10. 50 m = 10 + tolerance m, so m = 20.
TEST(FillInProportion, ShrinksASetRatherThanChangeItsProportions) {
  Numbers supply = {10, 1000};
  const Filled filled = fill_in_proportion(table<int64_t>({{100, 100}}), {100}, supply, Numbers{0});
  const int64_t size = total(filled.counts.row(0));
  EXPECT_EQ(filled.counts.row(0)[0], 10);
  EXPECT_EQ(size, static_cast<int64_t>(10 / (0.5 - kProportionTolerance)));
  EXPECT_EQ(filled.missing[0], 100 - size);
}

// The class is 1% of the second client's set, within the tolerance: it does not suffer from the scarcity.
TEST(FillInProportion, AScarceClassHoldsBackOnlyThoseThatNeedMuchOfIt) {
  Numbers supply = {12, 1000};
  const Filled filled =
      fill_in_proportion(table<int64_t>({{100, 100}, {2, 198}}), {400, 400}, supply, Numbers{0, 1});
  EXPECT_EQ(total(filled.counts.row(1)), 400);
  EXPECT_GE(total(filled.counts.row(0)), 16);
  EXPECT_LE(total(filled.counts.row(0)), 25);
}

TEST(FillInProportion, LeavesOutClassesWithoutSupplyAndGivesNothingWhereAllAreEmpty) {
  Numbers supply = {0, 100, 100};
  const Filled filled =
      fill_in_proportion(table<int64_t>({{50, 30, 20}, {7, 0, 0}}), {10, 10}, supply, Numbers{0, 1});
  EXPECT_EQ(numbers(filled.counts.row(0)), (Numbers{0, 6, 4}));
  EXPECT_EQ(numbers(filled.counts.row(1)), (Numbers{0, 0, 0}));
  EXPECT_EQ(filled.missing, (Numbers{0, 10}));
}

TEST(FillInProportion, NeverTakesMoreThanThereIsAndKeepsProportionsForAnyInput) {
  for (int64_t seed = 0; seed < 400; ++seed) {
    KeyedRandom random(seed, Purpose::partition);
    const auto clients = static_cast<int64_t>(1 + random.below(12));
    const auto classes = static_cast<int64_t>(1 + random.below(12));
    Counts model(clients, classes);
    const std::vector<double> alpha(classes, std::pow(10, random.uniform(-3, 3)));
    for (int64_t k = 0; k < clients; ++k) {
      const Numbers row =
          largest_remainder(random.dirichlet(alpha), 1 + static_cast<int64_t>(random.below(300)));
      std::copy(row.begin(), row.end(), model.row(k).begin());
    }
    Numbers before(classes);
    for (int64_t& size : before) size = static_cast<int64_t>(random.below(500));
    Numbers supply = before;
    Numbers targets(clients);
    for (int64_t& size : targets) size = static_cast<int64_t>(random.below(400));
    Numbers priority(clients);
    std::iota(priority.begin(), priority.end(), 0);
    random.shuffle(std::span(priority));
    const Filled filled = fill_in_proportion(model, targets, supply, priority);
    Numbers used(classes);
    for (int64_t k = 0; k < clients; ++k) {
      const int64_t size = total(filled.counts.row(k));
      EXPECT_EQ(filled.missing[k], targets[k] - size);
      EXPECT_LE(size, targets[k]);
      double model_size = 0;
      int held = 0;
      for (int64_t c = 0; c < classes; ++c) {
        used[c] += filled.counts.row(k)[c];
        EXPECT_GE(filled.counts.row(k)[c], 0);
        if (before[c] > 0) model_size += static_cast<double>(model.row(k)[c]);
        held += before[c] > 0 && model.row(k)[c] > 0;
      }
      double distance = 0;  // in examples
      for (int64_t c = 0; c < classes && size > 0; ++c)
        if (before[c] > 0)
          distance +=
              0.5 * std::abs(static_cast<double>(filled.counts.row(k)[c]) -
                             static_cast<double>(model.row(k)[c]) / model_size * static_cast<double>(size));
      EXPECT_LE(distance, kProportionTolerance * static_cast<double>(size) + held) << "seed " << seed;
    }
    for (int64_t c = 0; c < classes; ++c) EXPECT_EQ(used[c] + supply[c], before[c]);
  }
}

}  // namespace
}  // namespace pf2lora
