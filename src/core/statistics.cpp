#include "core/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace pf2lora {
namespace {

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

void require_same_length(std::span<const double> a, std::span<const double> b) {
  if (a.size() != b.size()) throw std::invalid_argument("scores and their partners differ in length");
}

}  // namespace

Spread spread(std::span<const double> scores) {
  std::vector<double> sorted;
  std::ranges::copy_if(scores, std::back_inserter(sorted), [](double score) { return !std::isnan(score); });
  if (sorted.empty()) return {};
  std::ranges::sort(sorted);
  const std::span<const double> all(sorted);
  const std::size_t tenth = (all.size() + 9) / 10;  // ceil(N / 10) in integers, so at least 1
  Spread result;
  result.count = static_cast<int64_t>(all.size());
  result.mean = mean_of(all);
  double squares = 0;
  for (const double score : all) squares += (score - result.mean) * (score - result.mean);
  result.standard_deviation = std::sqrt(squares / static_cast<double>(all.size()));
  result.worst_decile = mean_of(all.first(tenth));
  result.best_decile = mean_of(all.last(tenth));
  result.minimum = all.front();
  result.maximum = all.back();
  return result;
}

int64_t count_below(std::span<const double> scores, std::span<const double> reference) {
  require_same_length(scores, reference);
  int64_t below = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) below += scores[i] < reference[i] ? 1 : 0;
  return below;
}

namespace {

// From 1; equal values share the mean of their ranks.
std::vector<double> ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t i, size_t j) { return values[i] < values[j]; });
  std::vector<double> rank(values.size());
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i) rank[order[i]] = double(begin + 1 + end) / 2;
  }
  return rank;
}

}  // namespace

double pearson(std::span<const double> a, std::span<const double> b) {
  if (a.size() != b.size()) throw std::invalid_argument("a correlation needs two values of each pair");
  const double count = double(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / count,
               mean_b = std::accumulate(b.begin(), b.end(), 0.0) / count;
  double both = 0, squares_a = 0, squares_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    both += (a[i] - mean_a) * (b[i] - mean_b);
    squares_a += (a[i] - mean_a) * (a[i] - mean_a);
    squares_b += (b[i] - mean_b) * (b[i] - mean_b);
  }
  const double scale = std::sqrt(squares_a * squares_b);
  return scale > 0 ? both / scale : std::numeric_limits<double>::quiet_NaN();
}

double spearman(std::span<const double> a, std::span<const double> b) {
  const auto unknown = [](double value) { return std::isnan(value); };
  if (std::ranges::any_of(a, unknown) || std::ranges::any_of(b, unknown))  // such have no rank
    return std::numeric_limits<double>::quiet_NaN();
  return pearson(ranks(a), ranks(b));
}

}  // namespace pf2lora
