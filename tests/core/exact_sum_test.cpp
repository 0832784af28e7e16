#include "core/exact_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>

namespace pf2lora {
namespace {

__extension__ using Int128 = __int128;

// A double in units of 2^-60, rounded half to even, by integer arithmetic on its mantissa.
Int128 reference_units(double number) {
  int exponent = 0;
  const Int128 mantissa = static_cast<Int128>(std::ldexp(std::frexp(number, &exponent), 53));  // exact
  const int shift = exponent - 53 + 60;
  if (shift >= 0) return mantissa * (Int128{1} << shift);
  if (shift < -60) return 0;  // |number| is below a quarter unit
  const Int128 divisor = Int128{1} << -shift;
  Int128 quotient = mantissa / divisor;
  Int128 remainder = mantissa % divisor;
  if (remainder < 0) {
    remainder += divisor;
    --quotient;
  }
  const Int128 half = divisor / 2;
  if (remainder > half || (remainder == half && quotient % 2 != 0)) ++quotient;
  return quotient;
}

// The double nearest to units * 2^-60, ties to even, found among three candidates by exact comparison.
double reference_value(Int128 units) {
  const auto distance = [&](double candidate) {
    const Int128 difference = static_cast<Int128>(candidate) - units;  // candidates are whole: exact
    return difference < 0 ? -difference : difference;
  };
  const double guess = static_cast<double>(static_cast<long double>(units));
  double best = guess;
  for (const double candidate : {std::nextafter(guess, -INFINITY), std::nextafter(guess, INFINITY)}) {
    if (std::fabs(guess) < 0x1p53) break;  // every whole number is a double here
    int exponent = 0;
    const bool even = std::fmod(std::ldexp(std::frexp(candidate, &exponent), 53), 2) == 0;
    if (distance(candidate) < distance(best) || (distance(candidate) == distance(best) && even))
      best = candidate;
  }
  return std::ldexp(best, -60);
}

struct Term {
  double weight;
  double value;
};

// Magnitudes from 2^-90 (below the unit) to 2^27, both signs, some exact ties of the unit.
std::vector<Term> random_terms(size_t count, std::mt19937_64& generator) {
  std::uniform_real_distribution<double> mantissa(-1, 1);
  std::uniform_int_distribution<int> exponent(-90, 27);
  std::vector<Term> terms(count);
  for (size_t i = 0; i < count; ++i) {
    terms[i] = {0.5 + std::fabs(mantissa(generator)) / 2,
                std::ldexp(mantissa(generator), exponent(generator))};
    if (i % 7 == 0) terms[i] = {1.0, std::ldexp(std::floor(mantissa(generator) * 4096) + 0.5, -60)};
  }
  return terms;
}

void add_term(ExactSum& sum, size_t i, const Term& term) {
  sum.add(i, std::span<const double>(&term.value, 1), term.weight);
}

double sum_of(const std::vector<Term>& terms) {
  ExactSum sum(1);
  for (const Term& term : terms) add_term(sum, 0, term);
  return sum.value(0);
}

TEST(ExactSum, EqualsInteger128Arithmetic) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937_64 generator(seed);
    const std::vector<Term> terms = random_terms(1 + seed * 3, generator);
    Int128 units = 0;
    for (const Term& term : terms) units += reference_units(term.weight * term.value);
    EXPECT_EQ(sum_of(terms), reference_value(units)) << "seed " << seed;
  }
}

TEST(ExactSum, EqualsLongDoubleWhereThatIsExact) {
  // 24-bit values in [2^-20, 1) times weight 2^-3: sums of 1000 need less than 64 bits.
  std::mt19937_64 generator(5);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(1000);
  long double reference = 0;
  ExactSum sum(1);
  for (float& value : values) {
    value = std::round(uniform(generator) * 0x1p20f) * 0x1p-20f;
    reference += static_cast<long double>(value) / 8;
    sum.add(0, std::span<const float>(&value, 1), 0.125);
  }
  EXPECT_EQ(sum.value(0), static_cast<double>(reference));
}

TEST(ExactSum, RoundsEachTermHalfToEven) {
  const auto value_of = [](double term) { return sum_of({{1.0, term}}); };
  EXPECT_EQ(value_of(0x1p-61), 0.0);
  EXPECT_EQ(value_of(3 * 0x1p-61), 2 * 0x1p-60);
  EXPECT_EQ(value_of(5 * 0x1p-61), 2 * 0x1p-60);
  EXPECT_EQ(value_of(-0x1p-61), 0.0);
  EXPECT_EQ(value_of(-3 * 0x1p-61), -2 * 0x1p-60);
  EXPECT_EQ(value_of(std::nextafter(0x1p-61, 1.0)), 0x1p-60);
  EXPECT_EQ(value_of(std::nextafter(-0x1p-61, -1.0)), -0x1p-60);
}

TEST(ExactSum, RoundsTheProductToDoubleFirst) {
  // 3 * (1/3 as a double) is 1 - 2^-54 before and 1 after the rounding to double; a fused product would leave
  // 2^-54 = 64 units missing.
  EXPECT_EQ(sum_of({{3.0, 1.0 / 3.0}, {1.0, -1.0}}), 0.0);
  std::mt19937_64 generator(11);
  std::uniform_real_distribution<double> uniform(-100, 100);
  std::vector<double> values(4099);
  for (double& value : values) value = uniform(generator);
  ExactSum sum(values.size());
  sum.add(0, values, 0.1);
  for (size_t i = 0; i < values.size(); ++i) {
    volatile double product = 0.1 * values[i];
    EXPECT_EQ(sum.value(i), reference_value(reference_units(product)));
  }
}

TEST(ExactSum, SameBitsInAnyOrder) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937_64 generator(seed);
    std::vector<Term> terms = random_terms(500, generator);
    const double expected = sum_of(terms);
    std::shuffle(terms.begin(), terms.end(), generator);
    EXPECT_EQ(sum_of(terms), expected) << "seed " << seed;
  }
}

TEST(ExactSum, SameLimbsForAnySplitOverAccumulatorsAndAnyOrder) {
  constexpr size_t clients = 37, numbers = 501;
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937_64 generator(seed);
    std::normal_distribution<float> normal(0, 30);
    std::vector<std::vector<float>> rows(clients, std::vector<float>(numbers));
    for (auto& row : rows)
      for (float& value : row) value = normal(generator);

    ExactSum whole(numbers);
    for (size_t k = 0; k < clients; ++k) whole.add(0, std::span<const float>(rows[k]), 1.0 / (k + 1.0));

    std::vector<size_t> order(clients);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), generator);
    const size_t parts = 1 + seed % 7;
    std::vector<ExactSum> part(parts, ExactSum(numbers));
    for (const size_t k : order) {
      ExactSum& target = part[generator() % parts];
      const size_t cut = generator() % (numbers + 1);  // a row in two slices
      target.add(0, std::span<const float>(rows[k]).first(cut), 1.0 / (k + 1.0));
      target.add(cut, std::span<const float>(rows[k]).subspan(cut), 1.0 / (k + 1.0));
    }
    for (size_t p = 1; p < parts; ++p) part[0].add(part[p]);
    EXPECT_TRUE(std::ranges::equal(whole.limbs(), part[0].limbs())) << "seed " << seed;
  }
}

TEST(ExactSum, CancelsExactly) {
  EXPECT_EQ(sum_of({{1.0, 1e8}, {1.0, 1e-10}, {1.0, -1e8}}), sum_of({{1.0, 1e-10}}));
  const double zero = sum_of({{1.0, 0.7}, {1.0, -0.7}});
  EXPECT_EQ(zero, 0.0);
  EXPECT_FALSE(std::signbit(zero));
}

TEST(ExactSum, KeepsFloatsAsTheyAreWhenTheirLastBitIsAUnit) {
  // A float of at least 2^-37 is a multiple of 2^-60.
  std::mt19937_64 generator(3);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (int i = 0; i < 1000; ++i) {
    const float value =
        std::ldexp(std::copysign(0.5f + std::fabs(uniform(generator)) / 2, uniform(generator)), i % 64 - 35);
    ExactSum sum(1);
    sum.add(0, std::span<const float>(&value, 1), 1.0);
    EXPECT_EQ(sum.value(0), static_cast<double>(value));
  }
}

TEST(ExactSum, NegativeZeroAndDenormalsAddNothing) {
  const std::vector<double> values{-0.0, std::numeric_limits<double>::denorm_min(),
                                   -std::numeric_limits<double>::denorm_min(), -0x1p-1000};
  const std::vector<float> floats{-0.0f, std::numeric_limits<float>::denorm_min(),
                                  -std::numeric_limits<float>::denorm_min(), -0x1p-100f};
  ExactSum sum(4);
  sum.add(0, values, 1.0);
  sum.add(0, floats, -1.0);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(sum.value(i), 0.0);
    EXPECT_FALSE(std::signbit(sum.value(i)));
  }
}

TEST(ExactSum, HoldsAsManyOfTheLargestTermsAsItPromises) {
  for (const double sign : {1.0, -1.0}) {
    const double largest = sign * std::nextafter(ExactSum::term_limit, 0.0);
    ExactSum sum(2);
    const std::vector<double> row{largest, -0x1p-60 * sign};
    for (int64_t k = 0; k < ExactSum::max_terms; ++k) sum.add(0, row, 1.0);
    EXPECT_EQ(sum.value(0), largest * 0x1p19);
    EXPECT_EQ(sum.value(1), -0x1p-41 * sign);
    EXPECT_THROW(sum.add(0, row, 1.0), NumericalError);
    EXPECT_EQ(sum.value(0), largest * 0x1p19) << "a refused row changes nothing";
  }
}

TEST(ExactSum, CountsTermsANumberNotCallsOfAdd) {
  ExactSum sum(10);
  const std::vector<double> row(10, 1.0);
  const std::span<const double> slices(row);
  for (int client = 0; client < 3; ++client) {
    sum.add(0, slices.first(4), 1.0);
    sum.add(4, slices.first(1), 1.0);
    sum.add(7, slices.first(3), 1.0);
  }
  EXPECT_EQ(sum.terms(), 3);
  ExactSum other(10);
  other.add(2, slices.first(5), 1.0);
  sum.add(other);
  EXPECT_EQ(sum.terms(), 4);
  sum.add(0, std::span<const double>(), 1.0);
  EXPECT_EQ(sum.terms(), 4);
}

TEST(ExactSum, RefusesMoreTermsThanItHoldsAlsoWhenMerged) {
  ExactSum half(1), more(1);
  const double one = 1;
  for (int64_t k = 0; k < ExactSum::max_terms / 2; ++k) half.add(0, std::span<const double>(&one, 1), 1.0);
  more.add(half);
  more.add(half);
  EXPECT_EQ(more.value(0), 0x1p19);
  EXPECT_NO_THROW(more.check_terms());
  EXPECT_THROW(more.add(half), NumericalError);
  EXPECT_EQ(more.value(0), 0x1p19);
  more.limbs().back() *= 2;  // as an all-reduce of two full sums would leave it
  EXPECT_THROW(more.check_terms(), NumericalError);
}

TEST(ExactSum, NamesTheFirstTermThatCannotBeAddedAndAddsNothing) {
  const double bad_values[] = {std::nan(""), INFINITY, -INFINITY, 0x1p28, -0x1p28, 1e300};
  for (const double bad : bad_values) {
    for (const size_t where : {0, 1, 700, 1499}) {
      ExactSum sum(2000);
      std::vector<double> row(1500, 2.0);
      row[where] = bad;
      row.back() = bad;
      try {
        sum.add(300, row, 1.0);
        ADD_FAILURE() << bad << " was added";
      } catch (const NumericalError& error) {
        EXPECT_EQ(error.code(), ExitCode::numerical_failure);
        EXPECT_NE(std::string(error.what()).find("number " + std::to_string(300 + where) + " "),
                  std::string::npos)
            << error.what();
      }
      EXPECT_EQ(std::ranges::count(sum.limbs(), 0), 4001);
    }
  }
}

TEST(ExactSum, TheProductDecidesWhatIsTooLarge) {
  const float value = 0x1p30f;
  ExactSum sum(1);
  sum.add(0, std::span<const float>(&value, 1), 0.125);
  EXPECT_EQ(sum.value(0), 0x1p27);
  EXPECT_THROW(sum.add(0, std::span<const float>(&value, 1), 0.25), NumericalError);
  EXPECT_THROW(sum.add(0, std::span<const float>(&value, 1), std::nan("")), NumericalError);
}

TEST(ExactSum, ValuesAreThoseOfValueAndClearForgets) {
  std::mt19937_64 generator(2);
  std::normal_distribution<float> normal;
  std::vector<float> row(100);
  for (float& value : row) value = normal(generator);
  ExactSum sum(100);
  sum.add(0, std::span<const float>(row), 0.3);
  std::vector<double> values(40);
  sum.values(25, values);
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(values[i], sum.value(25 + i));
  sum.clear();
  EXPECT_EQ(sum.size(), 100u);
  EXPECT_EQ(std::ranges::count(sum.limbs(), 0), 201);
}

TEST(ExactSum, RefusesRangesOutsideIt) {
  ExactSum sum(4);
  std::vector<double> row(3);
  EXPECT_THROW(sum.add(2, row, 1.0), Error);
  EXPECT_THROW(sum.add(5, std::span<const double>(), 1.0), Error);
  EXPECT_THROW(sum.add(std::numeric_limits<size_t>::max(), row, 1.0), Error);
  EXPECT_THROW(sum.value(4), Error);
  EXPECT_THROW(sum.add(ExactSum(3)), Error);
}

}  // namespace
}  // namespace pf2lora
