#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/error.h"

namespace pf2lora {
namespace {

std::vector<int64_t> rows_from(int64_t first, int64_t count) {
  std::vector<int64_t> rows(count);
  std::iota(rows.begin(), rows.end(), first);
  return rows;
}

TEST(DrawBatch, HoldsDifferentRowsOfTheClientAndIsAFunctionOfItsKey) {
  const std::vector<int64_t> rows = rows_from(1000, 40);
  for (int64_t step = 0; step < 200; ++step) {
    const auto batch = draw_batch(1, Purpose::batch, 3, 2, step, 0, rows, 16);
    EXPECT_EQ(batch.size(), 16u);
    EXPECT_EQ(std::set<int64_t>(batch.begin(), batch.end()).size(), 16u);
    for (const int64_t row : batch) EXPECT_TRUE(std::binary_search(rows.begin(), rows.end(), row));
    EXPECT_TRUE(std::is_sorted(batch.begin(), batch.end()));
    EXPECT_EQ(batch, draw_batch(1, Purpose::batch, 3, 2, step, 0, rows, 16));
  }
}

TEST(DrawBatch, UsesAllExamplesOfAClientThatHasFewer) {
  for (const int64_t available : {0, 1, 15, 16}) {
    const std::vector<int64_t> rows = rows_from(5, available);
    EXPECT_EQ(draw_batch(1, Purpose::batch, 0, 0, 0, 0, rows, 16), rows);
  }
}

TEST(DrawBatch, EveryPartOfTheKeyGivesAnotherBatch) {
  const std::vector<int64_t> rows = rows_from(0, 500);
  const auto batch = draw_batch(1, Purpose::batch, 2, 3, 4, 5, rows, 16);
  EXPECT_NE(batch, draw_batch(9, Purpose::batch, 2, 3, 4, 5, rows, 16));
  EXPECT_NE(batch, draw_batch(1, Purpose::adaptation, 2, 3, 4, 5, rows, 16));
  EXPECT_NE(batch, draw_batch(1, Purpose::batch, 9, 3, 4, 5, rows, 16));
  EXPECT_NE(batch, draw_batch(1, Purpose::batch, 2, 9, 4, 5, rows, 16));
  EXPECT_NE(batch, draw_batch(1, Purpose::batch, 2, 3, 9, 5, rows, 16));
  EXPECT_NE(batch, draw_batch(1, Purpose::batch, 2, 3, 4, 9, rows, 16));
}

// Two independent draws of b from n share b^2 / n rows on average, with the variance of the hypergeometric.
TEST(DrawBatch, StepsAndSlotsAreIndependent) {
  constexpr double n = 100;
  constexpr double b = 16;
  constexpr int repeats = 4000;
  const std::vector<int64_t> rows = rows_from(0, 100);
  const double variance = b * (b / n) * (1 - b / n) * (n - b) / (n - 1);
  for (const bool by_slot : {false, true}) {
    double shared = 0;
    for (int64_t i = 0; i < repeats; ++i) {
      const auto x = draw_batch(1, Purpose::batch, 0, i, 0, 0, rows, 16);
      const auto y = draw_batch(1, Purpose::batch, 0, i, !by_slot, by_slot, rows, 16);
      std::vector<int64_t> both;
      std::set_intersection(x.begin(), x.end(), y.begin(), y.end(), std::back_inserter(both));
      shared += static_cast<double>(both.size()) / repeats;
    }
    EXPECT_NEAR(shared, b * b / n, 4 * std::sqrt(variance / repeats));
  }
}

TEST(DrawBatch, EveryRowIsEquallyLikely) {
  const std::vector<int64_t> rows = rows_from(0, 50);
  std::vector<double> counts(50);
  constexpr int repeats = 10000;
  for (int64_t step = 0; step < repeats; ++step)
    for (const int64_t row : draw_batch(2, Purpose::batch, 0, 0, step, 0, rows, 10)) ++counts[row];
  for (const double count : counts) EXPECT_NEAR(count, repeats * 0.2, 4.5 * std::sqrt(repeats * 0.2 * 0.8));
}

TEST(DrawCohort, IsAscendingWithoutRepetitionAndDiffersByRound) {
  std::set<std::vector<int64_t>> cohorts;
  std::vector<double> counts(20);
  constexpr int rounds = 5000;
  for (int64_t round = 1; round <= rounds; ++round) {
    const auto cohort = draw_cohort(1, round, 20, 5);
    ASSERT_EQ(cohort.size(), 5u);
    for (std::size_t i = 1; i < cohort.size(); ++i) ASSERT_LT(cohort[i - 1], cohort[i]);
    ASSERT_GE(cohort.front(), 0);
    ASSERT_LT(cohort.back(), 20);
    ASSERT_EQ(cohort, draw_cohort(1, round, 20, 5));
    cohorts.insert(cohort);
    for (const int64_t client : cohort) ++counts[client];
  }
  EXPECT_GT(cohorts.size(), 3000u);
  for (const double count : counts) EXPECT_NEAR(count, rounds * 0.25, 4.5 * std::sqrt(rounds * 0.25 * 0.75));
}

TEST(DrawCohort, TakesEveryClientForZeroAndRefusesMoreThanThereAre) {
  EXPECT_EQ(draw_cohort(1, 1, 4, 0), (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(draw_cohort(1, 1, 4, 4), (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_THROW(draw_cohort(1, 1, 4, 5), OptionError);
}

}  // namespace
}  // namespace pf2lora
