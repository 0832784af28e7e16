// The proximal step of --spectral-penalty against dense singular value soft thresholding.
#include "algorithm/spectral_penalty.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "adapters/random_tensors.h"

namespace pf2lora {
namespace {

using torch::Tensor;

const std::vector<Site> kSites = {{"first", "query", 0, 7, 5}, {"second", "value", 0, 4, 6}};
constexpr double kScale = 3;

Tensor product(const Level& level, const Tensor& rows, size_t site) {
  return kScale * level.up(rows, site).matmul(level.down(rows, site));
}

TEST(SpectralPenalty, ShrinksTheSingularValuesOfTheScaledProduct) {
  const Level level(kSites, 3, kScale, {"C", "D"}, HeadShape{2, 5});
  RandomTensors random(3);
  const Tensor rows = random.normal({2, level.size()});
  Tensor shrunk = rows.clone();
  const double rate = 0.1, lambda = 0.4;
  shrink_singular_values(level, shrunk, rate, lambda);
  for (size_t site = 0; site < kSites.size(); ++site)
    for (int64_t g = 0; g < 2; ++g) {
      const auto [u, s, vt] = torch::linalg_svd(product(level, rows, site)[g], false);
      const double fall =
          rate * lambda * kScale * kScale / 3 * level.down(rows, site)[g].square().sum().item<double>();
      EXPECT_GT((s - fall).clamp_min(0)[0].item<double>(), 0);
      const Tensor expected = u.matmul(torch::diag((s - fall).clamp_min(0))).matmul(vt);
      EXPECT_LT((product(level, shrunk, site)[g] - expected).abs().max().item<double>(), 1e-12);
      EXPECT_TRUE(torch::equal(level.down(shrunk, site)[g], level.down(rows, site)[g]));
    }
  EXPECT_TRUE(torch::equal(shrunk.narrow(1, level.head_block().offset, level.head_block().size),
                           rows.narrow(1, level.head_block().offset, level.head_block().size)));
}

TEST(SpectralPenalty, LeavesAnUpdateOfZeroReadyToGrow) {
  const Level level(kSites, 2, 1, {"C", "D"}, std::nullopt);
  RandomTensors random(4);
  Tensor rows = random.normal({1, level.size()});
  rows.narrow(1, level.up_block().offset, level.up_block().size).zero_();
  const Tensor before = rows.clone();
  shrink_singular_values(level, rows, 0.1, 10);
  EXPECT_TRUE(torch::equal(rows, before));
}

// Above the largest singular value of the gradient at zero nothing survives; the minimiser of
// 1/2 ||P - W||^2 + lambda ||P||_* is the soft thresholding of W.
TEST(SpectralPenalty, AndGradientStepsFindTheSoftThresholdedMatrix) {
  const std::vector<Site> site = {{"matrix", "matrix", 0, 6, 6}};
  const Level level(site, 4, 1, {"C", "D"}, std::nullopt);
  RandomTensors random(5);
  const Tensor left = std::get<0>(torch::linalg_qr(random.normal({6, 6}))),
               right = std::get<0>(torch::linalg_qr(random.normal({6, 6})));
  const Tensor values = torch::tensor({3.0, 2.0, 0.3, 0.2}, torch::kFloat64);
  const Tensor target = left.narrow(1, 0, 4).matmul(torch::diag(values)).matmul(right.narrow(1, 0, 4).t());
  Tensor rows = 0.5 * random.normal({1, level.size()});
  // Orthonormal rows of C, for which the metric of the step is exact, in the row space of the target.
  level.down(rows, 0)[0].copy_(right.narrow(1, 0, 4).t());
  const double rate = 0.5, lambda = 0.5;
  for (int step = 0; step < 400; ++step) {
    const Tensor residual = level.up(rows, 0)[0].matmul(level.down(rows, 0)[0]) - target;
    level.up(rows, 0)[0].sub_(rate * residual.matmul(level.down(rows, 0)[0].t()));
    shrink_singular_values(level, rows, rate, lambda);
  }
  const Tensor found = torch::linalg_svdvals(level.up(rows, 0)[0].matmul(level.down(rows, 0)[0]));
  const Tensor expected = torch::tensor({2.5, 1.5, 0.0, 0.0, 0.0, 0.0}, torch::kFloat64);
  EXPECT_LT((found - expected).abs().max().item<double>(), 1e-9);
}

}  // namespace
}  // namespace pf2lora
