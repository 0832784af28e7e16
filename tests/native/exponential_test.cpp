#include "native/exponential.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace pf2lora::native {
namespace {

struct AnyProcessor {
  static constexpr int64_t bytes = 16;
};

// Largest relative errors of e^x and e^x - 1 over x from `lowest` to 0, in units of the last place, against
// the C library in a wider type.
template <class T>
std::pair<double, double> errors(double lowest) {
  using V = Vector<AnyProcessor, T>;
  constexpr int64_t count = 400'000;
  double value = 0, less = 0;
  for (int64_t i = 1; i <= count; ++i) {
    const auto share = static_cast<long double>(i) / count;
    const T x = T(lowest * share * share * share);  // many near 0
    const Exponential<AnyProcessor, T> power(V::all(x));
    const auto error = [](T ours, long double exact) {
      return double(std::abs((ours - exact) / exact)) / std::numeric_limits<T>::epsilon();
    };
    value = std::max(value, error(power.value()[0], std::exp(static_cast<long double>(x))));
    less = std::max(less, error(power.value_less_one()[0], std::expm1(static_cast<long double>(x))));
  }
  return {value, less};
}

TEST(Exponential, IsGoodToTheLastPlaces) {
  const auto [single, single_less] = errors<float>(-86.9);
  EXPECT_LT(single, 1.5);
  EXPECT_LT(single_less, 2);
  const auto [full, full_less] = errors<double>(-707.9);
  EXPECT_LT(full, 1.5);
  EXPECT_LT(full_less, 2);
}

TEST(Exponential, EndsAtItsLowest) {
  using V = Vector<AnyProcessor, float>;
  const auto at = [](float x) { return Exponential<AnyProcessor, float>(V::all(x)).value()[1]; };
  EXPECT_EQ(at(0), 1);
  EXPECT_EQ(at(-1e30f), at(-87));
  EXPECT_EQ(at(-INFINITY), at(-87));
  EXPECT_LT(at(-87), 2e-38f);
  EXPECT_TRUE(std::isnan(at(NAN)));
}

}  // namespace
}  // namespace pf2lora::native
