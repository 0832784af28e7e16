// Measures of rank of singular values in descending order. analysis/ranks.py has the same and more for
// readers of results.h5.
#pragma once
#include <cstdint>
#include <span>

namespace pf2lora {

// How many values are at least threshold * s_1; 0 where s_1 is 0.
int64_t numerical_rank(std::span<const double> values, double threshold);

// sum s^2 / s_1^2; 0 where s_1 is 0.
double stable_rank(std::span<const double> values);

}  // namespace pf2lora
