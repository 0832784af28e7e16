#include "core/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

namespace pf2lora {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// 25 scores; mean, std and deciles (3 each) below are NumPy's.
const std::vector<double> scores = {0,    0.49, 0.98, 0.47, 0.96, 0.45, 0.94, 0.43, 0.92,
                                    0.41, 0.9,  0.39, 0.88, 0.37, 0.86, 0.35, 0.84, 0.33,
                                    0.82, 0.31, 0.8,  0.29, 0.78, 0.27, 0.76};

TEST(Spread, AgreesWithNumPy) {
  const Spread s = spread(scores);
  EXPECT_EQ(s.count, 25);
  EXPECT_NEAR(s.mean, 0.6, 1e-15);
  EXPECT_NEAR(s.standard_deviation, 0.2778488797889961, 1e-15);
  EXPECT_NEAR(s.worst_decile, 0.18666666666666668, 1e-15);
  EXPECT_NEAR(s.best_decile, 0.96, 1e-15);
  EXPECT_EQ(s.minimum, 0);
  EXPECT_EQ(s.maximum, 0.98);
}

TEST(Spread, ADecileHoldsTheNumberOfClientsRoundedUp) {
  for (int count : {1, 9, 10, 11, 20, 21, 30, 100, 101}) {
    std::vector<double> ramp;
    for (int i = 0; i < count; ++i) ramp.push_back(i);
    // The mean of 0 .. n-1 is (n-1)/2, so the decile's size can be read off.
    const double size = std::max(1.0, std::ceil(count / 10.0));
    EXPECT_DOUBLE_EQ(spread(ramp).worst_decile, (size - 1) / 2) << count;
    EXPECT_DOUBLE_EQ(spread(ramp).best_decile, count - 1 - (size - 1) / 2) << count;
  }
}

TEST(Spread, LeavesOutClientsWithoutAScore) {
  const std::vector<double> with_gaps = {nan, 0.25, nan, 0.75};
  const Spread s = spread(with_gaps);
  EXPECT_EQ(s.count, 2);
  EXPECT_DOUBLE_EQ(s.mean, 0.5);
  EXPECT_DOUBLE_EQ(s.standard_deviation, 0.25);
  EXPECT_EQ(s.minimum, 0.25);
}

TEST(Spread, OfNobodyIsUnknown) {
  EXPECT_EQ(spread({}).count, 0);
  EXPECT_TRUE(std::isnan(spread({}).mean));
  EXPECT_TRUE(std::isnan(spread(std::vector<double>{nan, nan}).worst_decile));
}

TEST(CountBelow, CountsOnlyClientsWithBothScores) {
  const std::vector<double> mine = {0.5, 0.9, nan, 0.7, 0.2};
  const std::vector<double> theirs = {0.6, 0.8, 0.9, 0.7, nan};
  EXPECT_EQ(count_below(mine, theirs), 1);
  EXPECT_EQ(count_below(theirs, mine), 1);
  EXPECT_THROW(count_below(mine, {}), std::invalid_argument);
}

// SciPy's pearsonr and spearmanr.
TEST(Correlation, AgreesWithSciPy) {
  const std::vector<double> a = {1, 2, 2, 4, 7, 3}, b = {0.5, 3, 1, 9, 9, 2};
  EXPECT_NEAR(pearson(a, b), 0.8610138428806747, 1e-12);
  EXPECT_NEAR(spearman(a, b), 0.8823529411764706, 1e-12);
}

TEST(Correlation, OfWhatIsNoNumberIsUnknown) {
  const std::vector<double> a = {1, nan, 2}, b = {3, 1, 2};
  for (const auto& [x, y] : {std::pair{a, b}, {b, a}, {a, a}}) {
    EXPECT_TRUE(std::isnan(pearson(x, y)));
    EXPECT_TRUE(std::isnan(spearman(x, y)));
  }
}

}  // namespace
}  // namespace pf2lora
