#include "core/rank_measures.h"

#include <algorithm>

namespace pf2lora {

int64_t numerical_rank(std::span<const double> values, double threshold) {
  if (values.empty() || values[0] == 0) return 0;
  return std::count_if(values.begin(), values.end(),
                       [&](double value) { return value >= threshold * values[0]; });
}

double stable_rank(std::span<const double> values) {
  if (values.empty() || values[0] == 0) return 0;
  double sum = 0;
  for (double value : values) sum += value * value;
  return sum / (values[0] * values[0]);
}

}  // namespace pf2lora
