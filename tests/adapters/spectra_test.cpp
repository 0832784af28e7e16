// The reference is dense algebra in double: the SVD of the products themselves.
#include "adapters/spectra.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "adapters/random_tensors.h"

namespace pf2lora {
namespace {

using torch::Tensor;

void expect_singular_values(const Tensor& found, const Tensor& dense) {
  const Tensor expected = torch::linalg_svdvals(dense);
  const double largest = expected[0].item<double>();
  for (int64_t i = 0; i < found.size(0); ++i) {
    const double reference = i < expected.size(0) ? expected[i].item<double>() : 0;
    EXPECT_NEAR(found[i].item<double>(), reference, 1e-10 * reference + 1e-14 * largest) << "value " << i;
    if (i > 0) {
      EXPECT_LE(found[i].item<double>(), found[i - 1].item<double>());
    }
  }
}

// Left singular vectors of a dense matrix whose value is at least 1e-2 of the largest.
Tensor leading_vectors(const Tensor& dense) {
  const auto [left, values, right] = torch::linalg_svd(dense, false);
  return left.narrow(1, 0, (values >= 1e-2 * values[0]).sum().item<int64_t>());
}

struct Shape4 {
  int64_t out, in, common, client;
};

TEST(Spectra, AgreeWithTheDenseSvdOfRandomPairs) {
  const std::array shapes = {Shape4{384, 384, 8, 2}, Shape4{64, 30, 8, 4}, Shape4{30, 64, 8, 2},
                             Shape4{10, 10, 4, 1},   Shape4{3, 50, 4, 2},  Shape4{50, 3, 2, 4},
                             Shape4{5, 4, 8, 8},     Shape4{1, 1, 1, 1},   Shape4{40, 40, 1, 6}};
  for (uint64_t seed = 0; seed < 4; ++seed)
    for (const auto& [out, in, common, client] : shapes) {
      SCOPED_TRACE("shape " + std::to_string(out) + " x " + std::to_string(in) + ", seed " +
                   std::to_string(seed));
      RandomTensors random(seed);
      const Tensor a = random.normal({common, in}), b = random.normal({out, common}, 2.0);
      const Tensor c = random.normal({client, in}), d = random.normal({out, client}, 0.3);
      const PairSpectra spectra = pair_spectra(a, b, c, d);
      const Tensor ba = b.mm(a), dc = d.mm(c);
      expect_singular_values(spectra.common, ba);
      expect_singular_values(spectra.client, dc);
      expect_singular_values(spectra.total, ba + dc);
      EXPECT_EQ(spectra.total.size(0), common + client);
      EXPECT_TRUE(torch::equal(singular_values(a, b), spectra.common));

      const Tensor u1 = leading_vectors(ba), u2 = leading_vectors(dc);
      const double overlap =
          u1.t().mm(u2).square().sum().item<double>() / double(std::min(u1.size(1), u2.size(1)));
      EXPECT_NEAR(spectra.overlap, overlap, 1e-10);
      const double size1 = ba.norm().item<double>(), size2 = dc.norm().item<double>();
      EXPECT_NEAR(spectra.norm_ratio, size2 / size1, 1e-10 * size2 / size1);
      EXPECT_NEAR(spectra.cosine, inner_product(ba, dc) / (size1 * size2), 1e-12);
    }
}

TEST(Spectra, CountADenseUpdateInTheTotalAlone) {
  RandomTensors random(9);
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{24, 15}, {15, 24}}) {
    const Tensor a = random.normal({4, in}), b = random.normal({out, 4});
    const Tensor c = random.normal({2, in}), d = random.normal({out, 2});
    const Tensor dense = random.normal({out, in}).to(torch::kFloat32);
    const PairSpectra spectra = pair_spectra(a, b, c, d, dense), pairs = pair_spectra(a, b, c, d);
    EXPECT_EQ(spectra.total.size(0), 15);
    expect_singular_values(spectra.total, dense.to(torch::kFloat64) + b.mm(a) + d.mm(c));
    EXPECT_TRUE(torch::equal(spectra.common, pairs.common) && torch::equal(spectra.client, pairs.client));
    EXPECT_EQ(spectra.overlap, pairs.overlap);
    EXPECT_EQ(spectra.cosine, pairs.cosine);
  }
}

TEST(Spectra, OfFloatFactorsAreThoseOfTheirExactValues) {
  RandomTensors random(3);
  const Tensor a = random.normal({8, 96}).to(torch::kFloat32), b = random.normal({96, 8}).to(torch::kFloat32);
  expect_singular_values(singular_values(a, b), b.to(torch::kFloat64).mm(a.to(torch::kFloat64)));
}

// A graded pair: values over 12 orders of magnitude are right relative to the largest, and close to
// themselves far below what a product in single precision would leave of them.
TEST(Spectra, KeepSmallValues) {
  RandomTensors random(4);
  const Tensor expected = torch::tensor({1.0, 1e-3, 1e-6, 1e-9, 1e-12}, torch::kFloat64);
  const Tensor up = random.orthonormal_columns(60, 5).mm(torch::diag(expected));
  const Tensor found = singular_values(random.orthonormal_columns(70, 5).t().contiguous(), up);
  for (int64_t i = 0; i < 5; ++i)
    EXPECT_NEAR(found[i].item<double>(), expected[i].item<double>(), 1e-15) << i;
}

TEST(Spectra, OfTheStartAreZeroAndTheirRatiosDoNotExist) {
  RandomTensors random(5);
  const Tensor a = random.normal({4, 20}), c = random.normal({2, 20});
  const Tensor zero_b = torch::zeros({30, 4}, torch::kFloat64),
               zero_d = torch::zeros({30, 2}, torch::kFloat64);
  const PairSpectra start = pair_spectra(a, zero_b, c, zero_d);
  EXPECT_EQ(start.common.abs().max().item<double>(), 0);
  EXPECT_EQ(start.total.abs().max().item<double>(), 0);
  EXPECT_TRUE(std::isnan(start.norm_ratio) && std::isnan(start.overlap) && std::isnan(start.cosine));

  const Tensor b = random.normal({30, 4}), d = random.normal({30, 2});
  const PairSpectra no_client = pair_spectra(a, b, c, zero_d);
  EXPECT_EQ(no_client.norm_ratio, 0);
  EXPECT_TRUE(std::isnan(no_client.overlap) && std::isnan(no_client.cosine));
  expect_singular_values(no_client.total, b.mm(a));

  const PairSpectra no_common = pair_spectra(a, zero_b, c, d);
  EXPECT_TRUE(std::isnan(no_common.norm_ratio) && std::isnan(no_common.overlap));
  expect_singular_values(no_common.total, d.mm(c));
}

TEST(Spectra, OfARankOfZeroAreEmpty) {
  RandomTensors random(6);
  const Tensor a = random.normal({4, 20}), b = random.normal({30, 4});
  const Tensor c = torch::empty({0, 20}, torch::kFloat64), d = torch::empty({30, 0}, torch::kFloat64);
  const PairSpectra spectra = pair_spectra(a, b, c, d);
  EXPECT_EQ(spectra.client.size(0), 0);
  EXPECT_EQ(spectra.norm_ratio, 0);
  EXPECT_TRUE(std::isnan(spectra.overlap));
  expect_singular_values(spectra.total, b.mm(a));
  EXPECT_TRUE(std::isnan(pair_spectra(c, d, a, b).norm_ratio));
}

// Two equal columns of B make a product of rank 3 from a pair of rank 4; the cancelling sum has rank 0.
TEST(Spectra, OfDegeneratePairs) {
  RandomTensors random(7);
  const Tensor a = random.normal({4, 20});
  Tensor b = random.normal({30, 4});
  b.select(1, 1).copy_(b.select(1, 0));
  const PairSpectra cancelled = pair_spectra(a, b, a, -b);
  expect_singular_values(cancelled.common, b.mm(a));
  EXPECT_LT(cancelled.common[3].item<double>(), 1e-13 * cancelled.common[0].item<double>());
  EXPECT_LT(cancelled.total[0].item<double>(), 1e-13 * cancelled.common[0].item<double>());
  EXPECT_NEAR(cancelled.overlap, 1, 1e-12);
  EXPECT_NEAR(cancelled.cosine, -1, 1e-12);
  EXPECT_NEAR(cancelled.norm_ratio, 1, 1e-12);
}

// Closed form: bases that share one of their directions, with values on both sides of the threshold of 1e-2.
TEST(Spectra, OverlapCountsDirectionsAboveTheThreshold) {
  RandomTensors random(8);
  const Tensor basis = random.orthonormal_columns(12, 6), right = random.orthonormal_columns(9, 6).t();
  const auto pair = [&](std::vector<int64_t> directions, std::vector<double> values) {
    return std::pair{
        right.narrow(0, 0, int64_t(values.size())).contiguous(),
        basis.index_select(1, torch::tensor(directions)) * torch::tensor(values, torch::kFloat64)};
  };
  const auto [a, b] = pair({0, 1, 2}, {1.0, 0.5, 0.009});    // numerical rank 2
  const auto [c, d] = pair({2, 1, 3}, {10.0, 0.11, 0.099});  // numerical rank 2: directions 2 and 1
  EXPECT_NEAR(pair_spectra(a, b, c, d).overlap, 0.5, 1e-12);
  const auto [c2, d2] = pair({4, 5}, {1.0, 1.0});
  EXPECT_NEAR(pair_spectra(a, b, c2, d2).overlap, 0, 1e-12);
  EXPECT_NEAR(pair_spectra(a, b, c2, d2).cosine, 0, 1e-12);
}

}  // namespace
}  // namespace pf2lora
