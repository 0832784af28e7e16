// The step of --spectral-penalty against closed forms, integrated flows and known minimisers; then the ranks
// of the matrix problem.
#include "algorithm/spectral_penalty.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

#include "adapters/random_tensors.h"
#include "algorithm/pf2lora.h"
#include "algorithm/small_problem.h"
#include "model/matrix_problem.h"

namespace pf2lora {
namespace {

using torch::Tensor;

constexpr double kScale = 3;
constexpr double kNever = std::numeric_limits<double>::infinity();

// A pair whose product is scale * left diag(up * down) right^T, with orthonormal columns: in every singular
// direction i, |up^T u| = up[i] and |down v| = down[i].
struct Pair {
  Tensor down, up;  // [r, in], [out, r]

  Pair(const Tensor& up_lengths, const Tensor& down_lengths, int64_t seed = 1) {
    RandomTensors random{uint64_t(seed)};
    const int64_t rank = up_lengths.size(0);
    const Tensor inside = random.orthonormal_columns(rank, rank);
    up = random.orthonormal_columns(7, rank).matmul(torch::diag(up_lengths)).matmul(inside.t());
    down = inside.matmul(torch::diag(down_lengths)).matmul(random.orthonormal_columns(5, rank).t());
  }
  Tensor product() const { return kScale * up.matmul(down); }
};

Tensor numbers(std::vector<double> values) {
  return torch::tensor(values, torch::kFloat64);
}

// The lengths d and c of a direction after `time` of d' = -s p(x) c, c' = -s p(x) d, p held at its first
// value, in many small steps; d stays 0 once it is there.
std::pair<double, double> flow(double d, double c, double time, const SpectralPenalty& penalty) {
  const double slope = penalty.slope * std::max(0.0, 1 - kScale * c * d / penalty.free);
  constexpr int kSteps = 400000;
  for (int i = 0; i < kSteps && d > 0; ++i) {
    const double by = kScale * slope * time / kSteps;
    const double middle_d = d - by / 2 * c, middle_c = c - by / 2 * d;
    d -= by * middle_c;
    c -= by * middle_d;
  }
  return {std::max(d, 0.0), c};
}

TEST(SpectralPenalty, FollowsTheFlowOfItsSlopeOnBothFactors) {
  const Tensor d = numbers({1.2, 0.7, 0.2, 0.05}), c = numbers({1.5, 0.9, 0.8, 0.6});
  for (const double free : {kNever, 4.0, 1.0}) {
    const SpectralPenalty penalty{0.4, free};
    const double time = 0.25;
    Pair pair(d, c);
    const Tensor before = pair.product();
    shrink_singular_values(pair.down, pair.up, kScale, time, penalty);
    const auto [u, s, vt] = torch::linalg_svd(before, false);
    int64_t lasting = 0;
    for (int64_t i = 0; i < 4; ++i) {
      const auto [to_d, to_c] = flow(d[i].item<double>(), c[i].item<double>(), time, penalty);
      EXPECT_NEAR(pair.up.t().matmul(u.select(1, i)).norm().item<double>(), to_d, 1e-5) << i;
      EXPECT_NEAR(pair.down.matmul(vt[i]).norm().item<double>(), to_c, 1e-5) << i;
      lasting += to_d > 0;
      // Singular vectors stay.
      const Tensor moved = u.t().matmul(pair.product()).matmul(vt.t());
      EXPECT_LT((moved - torch::diag(moved.diagonal())).abs().max().item<double>(), 1e-12);
    }
    EXPECT_EQ(torch::linalg_matrix_rank(pair.product(), 1e-12).item<int64_t>(), lasting);
    EXPECT_GE(lasting, 2);
    EXPECT_LT(lasting, 4);
  }
}

// What the factors' lengths do to a random pair is another thing; what its singular values do is not.
TEST(SpectralPenalty, ShrinksTheSingularValuesOfAnyPair) {
  RandomTensors random(3);
  Tensor down = random.normal({3, 6}), up = random.normal({4, 3});
  const Tensor before = kScale * up.matmul(down);
  const auto [u, s, vt] = torch::linalg_svd(before, false);
  const Tensor c2 = down.matmul(vt.narrow(0, 0, 3).t()).square().sum(0),
               d2 = up.t().matmul(u.narrow(1, 0, 3)).square().sum(0);
  const SpectralPenalty penalty{0.5, 0.8 * s[0].item<double>()};
  const double time = 0.1;
  shrink_singular_values(down, up, kScale, time, penalty);
  const Tensor x = s.narrow(0, 0, 3);
  const Tensor angle = kScale * time * penalty.slope * (1 - x / penalty.free).clamp_min(0);
  const Tensor expected = (x * (2 * angle).cosh() - kScale * (c2 + d2) / 2 * (2 * angle).sinh()).clamp_min(0);
  EXPECT_EQ(expected[0].item<double>(), x[0].item<double>());
  EXPECT_GT(expected[1].item<double>(), 0);
  EXPECT_LT(expected[1].item<double>(), x[1].item<double>());
  const Tensor wanted = u.narrow(1, 0, 3).matmul(torch::diag(expected)).matmul(vt.narrow(0, 0, 3));
  EXPECT_LT((kScale * up.matmul(down) - wanted).abs().max().item<double>(), 1e-12);
}

TEST(SpectralPenalty, LeavesAPairOfLargeSingularValuesBitForBit) {
  for (const auto type : {torch::kFloat64, torch::kFloat32}) {
    RandomTensors random(4);
    Tensor down = random.normal({3, 6}).to(type), up = random.normal({4, 3}).to(type);
    const Tensor down_before = down.clone(), up_before = up.clone();
    const double least =
        torch::linalg_svdvals(kScale * up.matmul(down).to(torch::kFloat64))[2].item<double>();
    shrink_singular_values(down, up, kScale, 10, {100, least * (1 - 1e-5)});
    EXPECT_TRUE(torch::equal(down, down_before));
    EXPECT_TRUE(torch::equal(up, up_before));
  }
}

// Nothing left is exactly nothing, and down is where it was before the loss moved it, ready to grow again.
TEST(SpectralPenalty, EndsAnUpdateThatNothingAsksFor) {
  const double c0 = 0.6, angle = 0.3;
  Pair pair(numbers({c0 * std::sinh(angle), c0 * std::sinh(angle / 2)}),
            numbers({c0 * std::cosh(angle), c0 * std::cosh(angle / 2)}));
  const double time = 1.01 * angle / (kScale * 0.4);
  shrink_singular_values(pair.down, pair.up, kScale, time, {0.4, kNever});
  EXPECT_EQ(pair.up.abs().max().item<double>(), 0);
  EXPECT_LT((torch::linalg_svdvals(pair.down) - c0).abs().max().item<double>(), 1e-12);

  const Tensor down = pair.down.clone();
  shrink_singular_values(pair.down, pair.up, kScale, 10, {0.4, kNever});
  EXPECT_TRUE(torch::equal(pair.down, down));
  EXPECT_EQ(pair.up.abs().max().item<double>(), 0);

  // However strong it is.
  Pair balanced(numbers({1.0, 0.5}), numbers({1.0, 0.5}));
  shrink_singular_values(balanced.down, balanced.up, kScale, 1e6, {1e6, kNever});
  EXPECT_EQ(balanced.up.abs().max().item<double>(), 0);
  EXPECT_GT(torch::linalg_svdvals(balanced.down)[1].item<double>(), 0.2);
}

// 1/2 (x - w)^2 + P(x), P the penalty of slope lambda max(0, 1 - x / free), lambda < free, has its minimum at
// 0 for w <= lambda, at (w - lambda) / (1 - lambda / free) up to free, and from there on at w: firm
// thresholding (Gao and Bruce 1997). With free infinite it is w - lambda, soft thresholding.
TEST(SpectralPenalty, AndGradientStepsFindTheFirmThreshold) {
  for (const double free : {kNever, 1.5})
    for (const double w : {0.2, 0.45, 0.55, 1.0, 1.4, 1.6, 4.0}) {
      const double lambda = 0.5, rate = 3e-3;
      double expected = w <= lambda ? 0 : std::min(w, (w - lambda) / (1 - lambda / free));
      if (w > free) expected = w;
      Tensor down = torch::full({1, 1}, 0.3, torch::kFloat64), up = torch::zeros({1, 1}, torch::kFloat64);
      for (int step = 0; step < 6000; ++step) {
        const double c = down.item<double>(), d = up.item<double>();
        const double slope = kScale * (kScale * c * d - w);
        down.sub_(rate * slope * d);
        up.sub_(rate * slope * c);
        if (step % 2 == 1) shrink_singular_values(down, up, kScale, 2 * rate, {lambda, free});
      }
      EXPECT_NEAR((kScale * down * up).item<double>(), expected, 0.02) << "w " << w << ", free " << free;
      if (w <= lambda) {
        EXPECT_EQ(up.item<double>(), 0);
      } else if (w > free) {
        EXPECT_NEAR((kScale * down * up).item<double>(), w, 1e-9);
      }
    }
}

TEST(SpectralPenalty, MeasuresTheLargestSingularValueOfEachSite) {
  const std::vector<Site> sites = {{"first", "query", 0, 7, 5}, {"second", "value", 0, 4, 6}};
  const Level level(sites, 3, kScale, {"C", "D"}, HeadShape{2, 5});
  RandomTensors random(3);
  const Tensor rows = random.normal({2, level.size()});
  for (int64_t g = 0; g < 2; ++g) {
    const auto found = largest_singular_values(level, rows[g]);
    ASSERT_EQ(found.size(), 2u);
    for (size_t site = 0; site < 2; ++site)
      EXPECT_NEAR(found[site],
                  kScale * torch::linalg_svdvals(level.up(rows, site)[g].matmul(level.down(rows, site)[g]))[0]
                               .item<double>(),
                  1e-12);
  }
  EXPECT_TRUE(largest_singular_values(Level(sites, 0, 1, {"C", "D"}, std::nullopt), rows[0]).empty());
}

// ---- in the method ----------------------------------------------------------------------------------------
Options matrix_options() {
  Options options;
  options.problem = "matrix";
  options.clients = 4;
  options.matrix_rows = options.matrix_columns = 16;
  options.matrix_common_values = "4,3";
  options.matrix_client_values = ";2.2;2.2,1.8;2";
  options.matrix_noise = 0.02;
  options.rank = 4;
  options.client_rank = 3;
  options.optimizer = "sgd";
  options.learning_rate = options.client_learning_rate = 0.08;
  options.rounds = 60;
  options.local_steps = 10;
  return options;
}

struct Trained {
  ClientGroup group;
  std::vector<int64_t> own, common;  // ranks: of clients, of the common pair

  Trained(const Options& options, double penalty) {
    const MatrixProblem problem(options);
    Pf2LoraOptions set;
    set.spectral_penalty = penalty;
    const Pf2Lora algorithm(options, set, problem);
    group = start_group(algorithm, problem, {0, 1, 2, 3});
    for (int64_t round = 1; round <= options.rounds; ++round) {
      algorithm.local_steps(group, {.round = round, .steps = options.local_steps});
      group.common.copy_(average(algorithm, {group}, round).expand_as(group.common));
    }
    own = ranks(algorithm.client_level(group));
    common = ranks(algorithm.common_level(group));
  }
  static std::vector<int64_t> ranks(const LevelRows& at) {
    std::vector<int64_t> found;
    for (int64_t g = 0; g < 4; ++g)
      found.push_back(
          (torch::linalg_svdvals(at.level->up(at.rows, 0)[g].matmul(at.level->down(at.rows, 0)[g])) > 1e-9)
              .sum()
              .item<int64_t>());
    return found;
  }
};

// Noise of deviation 0.02 has singular values up to 0.16 of a 16 x 16 matrix, 0.08 of the mean of four.
TEST(SpectralPenaltyOfPf2Lora, FindsTheRanksThatNoiseHides) {
  for (const std::string optimizer : {"sgd", "adamw"}) {
    Options options = matrix_options();
    options.optimizer = optimizer;
    if (optimizer == "adamw") {
      options.learning_rate = 0.01;
      options.schedule = "cosine";
    }
    const Trained plain(options, 0), penalised(options, 0.4);
    EXPECT_EQ(plain.own, (std::vector<int64_t>{3, 3, 3, 3})) << optimizer;
    EXPECT_EQ(plain.common, (std::vector<int64_t>{4, 4, 4, 4})) << optimizer;
    EXPECT_EQ(penalised.own, (std::vector<int64_t>{0, 1, 2, 1})) << optimizer;
    EXPECT_EQ(penalised.common, (std::vector<int64_t>{2, 2, 2, 2})) << optimizer;
  }
}

TEST(SpectralPenaltyOfPf2Lora, GivesAClientTheSameBitsAloneAndInAGroup) {
  const SmallProblem problem;
  for (const std::string optimizer : {"sgd", "adamw"}) {
    Options options = small_options();
    options.optimizer = optimizer;
    Pf2LoraOptions set;
    set.spectral_penalty = 0.01;
    const Pf2Lora algorithm(options, set, problem);
    ClientGroup together = start_group(algorithm, problem, {1, 3, 4});
    const Tensor start = together.own.clone();
    algorithm.local_steps(together, {.round = 2, .steps = 3});
    EXPECT_FALSE(torch::equal(together.own, start));
    ClientGroup again = together;
    again.common = together.common.clone();
    again.own = together.own.clone();
    algorithm.penalise_clients(again, 3, 0.5);
    EXPECT_FALSE(torch::equal(again.own, together.own));
    for (int64_t g = 0; g < 3; ++g) {
      ClientGroup alone{{together.clients[size_t(g)]},
                        together.common.narrow(0, g, 1).clone(),
                        together.own.narrow(0, g, 1).clone()};
      algorithm.penalise_clients(alone, 3, 0.5);
      EXPECT_TRUE(torch::equal(alone.own[0], again.own[g]));
    }
  }
}

}  // namespace
}  // namespace pf2lora
