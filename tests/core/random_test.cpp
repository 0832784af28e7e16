#include "core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>

namespace pf2lora {
namespace {

// Kolmogorov-Smirnov: sqrt(n) * sup |F_n - F|. Above 1.95 with probability 0.001.
double kolmogorov(std::vector<double> sample, const std::function<double(double)>& cdf) {
  std::sort(sample.begin(), sample.end());
  const auto n = static_cast<double>(sample.size());
  double distance = 0;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const double f = cdf(sample[i]);
    distance = std::max({distance, std::abs(f - i / n), std::abs(f - (i + 1) / n)});
  }
  return std::sqrt(n) * distance;
}
constexpr double kKolmogorovLimit = 1.95;
constexpr int kSample = 100000;

std::vector<double> draws(const std::function<double()>& draw, int n = kSample) {
  std::vector<double> values(n);
  for (double& value : values) value = draw();
  return values;
}

// tests/kat_vectors of Random123, lines "threefry4x64 20": counter, key, expected.
TEST(Threefry, AnswersThePublishedVectors) {
  constexpr uint64_t ones = ~uint64_t{0};
  using Words = std::array<uint64_t, 4>;
  EXPECT_EQ(threefry({0, 0, 0, 0}, {0, 0, 0, 0}),
            (Words{0x09218ebde6c85537, 0x55941f5266d86105, 0x4bd25e16282434dc, 0xee29ec846bd2e40b}));
  EXPECT_EQ(threefry({ones, ones, ones, ones}, {ones, ones, ones, ones}),
            (Words{0x29c24097942bba1b, 0x0371bbfb0f6f4e11, 0x3c231ffa33f83a1c, 0xcd29113fde32d168}));
  EXPECT_EQ(threefry({0x452821e638d01377, 0xbe5466cf34e90c6c, 0xbe5466cf34e90c6c, 0xc0ac29b7c97c50dd},
                     {0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89}),
            (Words{0xa7e8fde591651bd9, 0xbaafd0c30138319b, 0x84a5c1a729e685b9, 0x901d406ccebc1ba4}));
}

// The packing of random.h, so that a stored run can be drawn again by another program.
TEST(KeyedRandom, HandsOutTheBlocksOfItsKeyInOrder) {
  KeyedRandom random(11, Purpose::batch, 2, 3, 4, 5);
  for (uint64_t block = 0; block < 3; ++block)
    for (const uint64_t word : threefry({11, 2, 3, 4}, {block, 5, 6, 0})) EXPECT_EQ(random.bits(), word);
}

TEST(KeyedRandom, EqualKeysGiveEqualStreamsAndEveryPartOfTheKeyMatters) {
  std::set<uint64_t> firsts;
  int keys = 0;
  for (const uint64_t seed : {0, 1})
    for (const Purpose purpose : {Purpose::common_initial, Purpose::batch})
      for (const int64_t client : {-1, 0, 1})
        for (const int64_t round : {0, 1})
          for (const int64_t step : {0, 1})
            for (const int64_t slot : {0, 1}) {
              KeyedRandom random(seed, purpose, client, round, step, slot);
              KeyedRandom again(seed, purpose, client, round, step, slot);
              const uint64_t first = random.bits();
              EXPECT_EQ(first, again.bits());
              firsts.insert(first);
              ++keys;
            }
  EXPECT_EQ(static_cast<int>(firsts.size()), keys);
}

// Under independence n * mean(x y) / (1 / 12) of centred uniforms is N(0, n): 4 standard deviations.
TEST(KeyedRandom, StreamsOfNeighbouringKeysAreUncorrelated) {
  for (int part = 0; part < 4; ++part) {
    double sum = 0;
    constexpr int n = 20000;
    for (int64_t i = 0; i < n; ++i) {
      KeyedRandom a(7, Purpose::batch, i);
      KeyedRandom b(7, part == 0 ? Purpose::adaptation : Purpose::batch, i + (part == 1), part == 2,
                    part == 3);
      sum += (a.uniform() - 0.5) * (b.uniform() - 0.5) * 12;
    }
    EXPECT_LT(std::abs(sum) / std::sqrt(static_cast<double>(n)), 4) << "part " << part;
  }
}

TEST(KeyedRandom, UniformIsUniformOnTheHalfOpenInterval) {
  KeyedRandom random(1, Purpose::batch);
  const std::vector<double> sample = draws([&] { return random.uniform(); });
  EXPECT_GE(*std::min_element(sample.begin(), sample.end()), 0);
  EXPECT_LT(*std::max_element(sample.begin(), sample.end()), 1);
  EXPECT_LT(kolmogorov(sample, [](double x) { return x; }), kKolmogorovLimit);
  const std::vector<double> scaled = draws([&] { return random.uniform(-3, 5); });
  EXPECT_LT(kolmogorov(scaled, [](double x) { return (x + 3) / 8; }), kKolmogorovLimit);
}

TEST(KeyedRandom, NormalHasTheNormalDistribution) {
  KeyedRandom random(2, Purpose::batch);
  const std::vector<double> sample = draws([&] { return random.normal(); });
  EXPECT_LT(kolmogorov(sample, [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }),
            kKolmogorovLimit);
  double fourth = 0;
  for (const double x : sample) fourth += x * x * x * x / kSample;
  EXPECT_NEAR(fourth, 3, 4 * std::sqrt(96.0 / kSample));  // var(x^4) = 105 - 9
}

TEST(KeyedRandom, BelowIsUniformOverItsRange) {
  KeyedRandom random(3, Purpose::batch);
  EXPECT_THROW(random.below(0), std::invalid_argument);
  EXPECT_EQ(random.below(1), 0u);
  std::vector<int> counts(7);
  for (int i = 0; i < kSample; ++i) ++counts[random.below(7)];
  double chi_square = 0;
  for (const int count : counts) chi_square += std::pow(count - kSample / 7.0, 2) / (kSample / 7.0);
  EXPECT_LT(chi_square, 22.46);  // 0.999 quantile, 6 degrees of freedom
}

// With n = 3/4 2^64 a plain modulo or multiplication hits one third of the range twice as often.
TEST(KeyedRandom, BelowIsUnbiasedForHugeRanges) {
  KeyedRandom random(4, Purpose::batch);
  const uint64_t n = uint64_t{3} << 62;
  std::vector<double> sample;
  for (int i = 0; i < kSample; ++i)
    sample.push_back(static_cast<double>(random.below(n)) / static_cast<double>(n));
  EXPECT_LT(kolmogorov(sample, [](double x) { return x; }), kKolmogorovLimit);
  std::vector<int> residues(3);
  for (int i = 0; i < kSample; ++i) ++residues[random.below(n) % 3];
  double chi_square = 0;
  for (const int count : residues) chi_square += std::pow(count - kSample / 3.0, 2) / (kSample / 3.0);
  EXPECT_LT(chi_square, 13.82);  // 0.999 quantile, 2 degrees of freedom
}

TEST(KeyedRandom, ShuffleGivesEveryOrderEquallyOften) {
  KeyedRandom random(5, Purpose::batch);
  std::map<std::vector<int>, int> counts;
  constexpr int n = 48000;
  for (int i = 0; i < n; ++i) {
    std::vector<int> values = {0, 1, 2, 3};
    random.shuffle(std::span(values));
    ++counts[values];
  }
  ASSERT_EQ(counts.size(), 24u);
  double chi_square = 0;
  for (const auto& [order, count] : counts) chi_square += std::pow(count - n / 24.0, 2) / (n / 24.0);
  EXPECT_LT(chi_square, 49.73);  // 0.999 quantile, 23 degrees of freedom
}

TEST(KeyedRandom, SampleWithoutReplacementIsUniformOverSubsets) {
  KeyedRandom random(6, Purpose::batch);
  EXPECT_THROW(random.sample_without_replacement(3, 4), std::invalid_argument);
  EXPECT_TRUE(random.sample_without_replacement(3, 0).empty());
  for (const int64_t n : {6, 16}) {  // the dense and the sparse way
    std::map<std::vector<int64_t>, int> counts;
    constexpr int repeats = 60000;
    for (int i = 0; i < repeats; ++i) {
      std::vector<int64_t> sample = random.sample_without_replacement(n, 2);
      EXPECT_NE(sample[0], sample[1]);
      ++counts[sample];
    }
    const auto pairs = static_cast<double>(n * (n - 1));
    ASSERT_EQ(static_cast<double>(counts.size()), pairs);
    double chi_square = 0;
    for (const auto& [pair, count] : counts)
      chi_square += std::pow(count - repeats / pairs, 2) / (repeats / pairs);
    // Normal approximation of chi square with pairs - 1 degrees of freedom, 4 standard deviations.
    EXPECT_LT(chi_square, pairs - 1 + 4 * std::sqrt(2 * (pairs - 1))) << n;
  }
  std::vector<int64_t> all = random.sample_without_replacement(1000, 1000);
  std::sort(all.begin(), all.end());
  for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(all[i], i);
}

// The same numbers are drawn whether k is small against n or not (both ways walk the same shuffle).
TEST(KeyedRandom, SmallSamplesAreTheBeginningOfLargeOnes) {
  for (int64_t seed = 0; seed < 50; ++seed) {
    const auto small = KeyedRandom(seed, Purpose::batch).sample_without_replacement(40, 9);
    const auto large = KeyedRandom(seed, Purpose::batch).sample_without_replacement(40, 30);
    EXPECT_TRUE(std::equal(small.begin(), small.end(), large.begin()));
  }
}

// Closed forms: Gamma(1/2) is half a squared normal, Gamma(1) exponential, Gamma(3) an Erlang distribution.
TEST(KeyedRandom, GammaVariatesHaveTheirDistribution) {
  KeyedRandom random(7, Purpose::partition);
  const auto sample = [&](double shape) {
    return draws([&] { return std::exp(random.log_gamma_variate(shape)); });
  };
  EXPECT_LT(kolmogorov(sample(0.5), [](double x) { return std::erf(std::sqrt(x)); }), kKolmogorovLimit);
  EXPECT_LT(kolmogorov(sample(1), [](double x) { return -std::expm1(-x); }), kKolmogorovLimit);
  EXPECT_LT(kolmogorov(sample(3), [](double x) { return 1 - std::exp(-x) * (1 + x + x * x / 2); }),
            kKolmogorovLimit);
}

// P(Gamma(a) < x) = x^a / Gamma(1 + a) (1 + O(x)): below log x = -30 an exact form of the far lower tail,
// where the variate itself is 0 in double precision.
TEST(KeyedRandom, GammaVariatesOfTinyShapeAreRightInTheLogarithm) {
  KeyedRandom random(8, Purpose::partition);
  constexpr double shape = 1e-3;
  std::vector<double> tail;
  int all = 0;
  for (; all < kSample; ++all) {
    const double value = random.log_gamma_variate(shape);
    ASSERT_TRUE(std::isfinite(value));
    if (value < -30) tail.push_back(value);
  }
  const double below = std::exp(-30 * shape) / std::tgamma(1 + shape);
  EXPECT_NEAR(static_cast<double>(tail.size()) / all, below, 4 * std::sqrt(below * (1 - below) / all));
  EXPECT_LT(kolmogorov(tail, [](double y) { return std::exp((y + 30) * shape); }), kKolmogorovLimit);
}

TEST(KeyedRandom, DirichletHasItsMomentsForSmallAndLargeAlpha) {
  constexpr int classes = 5;
  for (const double a : {1e-3, 0.1, 1.0, 10.0, 1e3}) {
    KeyedRandom random(9, Purpose::partition);
    const std::vector<double> alpha(classes, a);
    constexpr int n = 20000;
    double first = 0;
    double second = 0;
    double fourth = 0;
    for (int i = 0; i < n; ++i) {
      const std::vector<double> p = random.dirichlet(alpha);
      double total = 0;
      for (const double value : p) {
        ASSERT_TRUE(std::isfinite(value) && value >= 0);
        total += value;
      }
      ASSERT_NEAR(total, 1, 1e-12);
      first += p[0] / n;
      second += p[0] * p[0] / n;
      fourth += std::pow(p[0], 4) / n;
    }
    const double sum = classes * a;
    const double mean = 1.0 / classes;
    const double square = a * (a + 1) / (sum * (sum + 1));
    EXPECT_NEAR(first, mean, 4 * std::sqrt((square - mean * mean) / n)) << a;
    EXPECT_NEAR(second, square, 4 * std::sqrt((fourth - second * second) / n)) << a;
  }
}

// A component of Dirichlet(1, ..., 1) over K classes is Beta(1, K - 1); of unequal alpha the mean is alpha_i
// / sum.
TEST(KeyedRandom, DirichletHasItsMarginalDistribution) {
  KeyedRandom random(10, Purpose::partition);
  const std::vector<double> ones(4, 1.0);
  EXPECT_LT(kolmogorov(draws([&] { return random.dirichlet(ones)[2]; }, 20000),
                       [](double x) { return 1 - std::pow(1 - x, 3); }),
            kKolmogorovLimit);
  const std::vector<double> alpha = {0.5, 2, 7.5};
  std::vector<double> means(3);
  for (int i = 0; i < 20000; ++i) {
    const std::vector<double> p = random.dirichlet(alpha);
    for (int c = 0; c < 3; ++c) means[c] += p[c] / 20000;
  }
  for (int c = 0; c < 3; ++c) EXPECT_NEAR(means[c], alpha[c] / 10, 0.005);
}

TEST(KeyedRandom, LogDirichletStaysFiniteWhereProportionsUnderflow) {
  const std::vector<double> alpha(24, 1e-3);
  int underflowed = 0;
  for (int64_t seed = 0; seed < 200; ++seed) {
    for (const double value : KeyedRandom(seed, Purpose::partition).log_dirichlet(alpha)) {
      EXPECT_TRUE(std::isfinite(value));
      EXPECT_LE(value, 1e-12);
      underflowed += std::exp(value) == 0;
    }
  }
  EXPECT_GT(underflowed, 0);
}

TEST(KeyedRandom, DirichletRefusesAlphaThatIsNotPositiveAndFinite) {
  KeyedRandom random(1, Purpose::partition);
  for (const double bad : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    const std::vector<double> alpha = {1, bad};
    EXPECT_THROW(random.dirichlet(alpha), std::invalid_argument);
  }
}

}  // namespace
}  // namespace pf2lora
