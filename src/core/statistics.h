// How a score spreads over clients. A client without a score holds NaN and is left out everywhere.
#pragma once
#include <cstdint>
#include <limits>
#include <span>

namespace pf2lora {

// All NaN when no client has a score. A decile is the mean of the max(1, ceil(0.1 N)) lowest or highest
// scores; the standard deviation divides by N, since the clients are all there are.
struct Spread {
  int64_t count = 0;
  double mean = std::numeric_limits<double>::quiet_NaN();
  double standard_deviation = std::numeric_limits<double>::quiet_NaN();
  double worst_decile = std::numeric_limits<double>::quiet_NaN();
  double best_decile = std::numeric_limits<double>::quiet_NaN();
  double minimum = std::numeric_limits<double>::quiet_NaN();
  double maximum = std::numeric_limits<double>::quiet_NaN();
};

// The spread of scores for which more is better.
Spread spread(std::span<const double> scores);

// How many clients have scores in both and a lower one in `scores` than in `reference`: those harmed by a
// method. Throws std::invalid_argument for spans of different lengths.
int64_t count_below(std::span<const double> scores, std::span<const double> reference);

// Pearson's correlation of pairs; NaN for fewer than two, where one side is constant, or where it holds NaN.
// Throws std::invalid_argument for spans of different lengths.
double pearson(std::span<const double> a, std::span<const double> b);

// Spearman's: of the ranks, ties sharing their mean rank.
double spearman(std::span<const double> a, std::span<const double> b);

}  // namespace pf2lora
