#include "algorithm/row_optimizer.h"

#include <gtest/gtest.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim.h>

#include <cmath>
#include <numbers>

#include "adapters/random_tensors.h"
#include "core/error.h"

namespace pf2lora {
namespace {

using torch::Tensor;

constexpr int64_t kSize = 23;

// A row that torch's own optimiser moves.
template <class Optimizer>
class TheirRow {
 public:
  template <class Settings>
  TheirRow(const Tensor& start, const Settings& settings)
      : row_(start.clone().requires_grad_()), optimizer_(std::vector<Tensor>{row_}, settings) {}
  void step(const Tensor& gradient, double rate) {
    for (auto& group : optimizer_.param_groups()) group.options().set_lr(rate);
    row_.mutable_grad() = gradient.clone();
    optimizer_.step();
  }
  Tensor row() const { return row_.detach(); }

 private:
  Tensor row_;
  Optimizer optimizer_;
};

// Three clients in one block, of which the first took 4 steps and the second 1 step before, with rates and
// gradients that change.
double adamw_difference(torch::ScalarType type, double weight_decay) {
  RandomTensors random(1);
  const RowOptimizer optimizer(Rule::adamw, kSize, weight_decay);
  Tensor rows = random.normal({3, kSize}).to(type);
  Tensor state = torch::zeros({3, optimizer.state_layout().size()}, type);
  std::vector<TheirRow<torch::optim::AdamW>> theirs;
  for (int64_t g = 0; g < 3; ++g)
    theirs.emplace_back(rows[g], torch::optim::AdamWOptions(1e-3).weight_decay(weight_decay));

  const auto step = [&](int64_t first, int64_t count, double rate) {
    const Tensor gradient = random.normal({count, kSize}, std::pow(10.0, -double(random.below(5)))).to(type);
    optimizer.step(rows.narrow(0, first, count), gradient, state.narrow(0, first, count), rate);
    for (int64_t g = 0; g < count; ++g) theirs[size_t(first + g)].step(gradient[g], rate);
  };
  for (int i = 0; i < 4; ++i) step(0, 1, 1e-2);
  step(1, 1, 3e-2);
  for (int i = 0; i < 30; ++i) step(0, 3, 1e-2 * (1 + i % 3));
  const Tensor steps = view(state, optimizer.state_layout().find("steps")).flatten();
  EXPECT_TRUE(torch::equal(steps, torch::tensor({34.0, 31.0, 30.0}).to(type)));
  double worst = 0;
  for (int64_t g = 0; g < 3; ++g)
    worst = std::max(worst, largest_difference(rows[g], theirs[size_t(g)].row()));
  return worst;
}

TEST(RowOptimizer, AdamWAgreesWithTorchForEveryNumberOfSteps) {
  for (const double weight_decay : {0.0, 0.3}) {
    EXPECT_LT(adamw_difference(torch::kFloat64, weight_decay), 1e-12) << weight_decay;
    EXPECT_LT(adamw_difference(torch::kFloat32, weight_decay), 1e-6) << weight_decay;
  }
}

TEST(RowOptimizer, SgdAgreesWithTorch) {
  for (const double weight_decay : {0.0, 0.3}) {
    RandomTensors random(2);
    const RowOptimizer optimizer(Rule::sgd, kSize, weight_decay);
    EXPECT_EQ(optimizer.state_layout().size(), 0);
    Tensor rows = random.normal({2, kSize});
    std::vector<TheirRow<torch::optim::SGD>> theirs;
    for (int64_t g = 0; g < 2; ++g)
      theirs.emplace_back(rows[g], torch::optim::SGDOptions(0.1).weight_decay(weight_decay));
    for (int i = 0; i < 10; ++i) {
      const Tensor gradient = random.normal({2, kSize});
      optimizer.step(rows, gradient, torch::empty({2, 0}, torch::kFloat64), 0.1 / (i + 1));
      for (int64_t g = 0; g < 2; ++g) theirs[size_t(g)].step(gradient[g], 0.1 / (i + 1));
    }
    for (int64_t g = 0; g < 2; ++g) EXPECT_LT(largest_difference(rows[g], theirs[size_t(g)].row()), 1e-14);
  }
}

TEST(RowOptimizer, LeavesRowsOfNoParametersAlone) {
  const RowOptimizer optimizer(Rule::adamw, 0, 0.1);
  EXPECT_EQ(optimizer.state_layout().size(), 0);
  const Tensor nothing = torch::empty({2, 0});
  EXPECT_NO_THROW(optimizer.step(nothing, nothing, nothing, 1));
}

Options schedule(const std::string& name, double warmup) {
  Options options;
  options.rounds = 10;
  options.local_steps = 20;
  options.schedule = name;
  options.warmup = warmup;
  return options;
}

TEST(ScheduledRate, IsConstantWithoutScheduleAndWarmup) {
  const Options options = schedule("constant", 0);
  for (const int64_t round : {1, 5, 10})
    for (const int64_t step : {0, 19}) EXPECT_EQ(scheduled_rate(options, 0.3, round, step), 0.3);
}

// The rate of step n of N = 200 is base (1 + cos(pi n / N)) / 2.
TEST(ScheduledRate, FollowsHalfACosineOverAllRounds) {
  const Options options = schedule("cosine", 0);
  EXPECT_EQ(scheduled_rate(options, 0.3, 1, 0), 0.3);
  EXPECT_NEAR(scheduled_rate(options, 0.3, 6, 0), 0.15, 1e-16);
  EXPECT_NEAR(scheduled_rate(options, 0.3, 3, 10), 0.3 * (1 + std::sqrt(0.5)) / 2, 1e-15);
  EXPECT_NEAR(scheduled_rate(options, 0.3, 10, 19), 0.3 * std::pow(std::sin(std::numbers::pi / 400), 2),
              1e-15);
  EXPECT_NEAR(scheduled_rate(options, 0.3, 11, 5), 0, 1e-16);  // adaptation after the last round
}

// Warm-up over a tenth of 200 steps: (n + 1) / 21 of the base, then the schedule over what is left.
TEST(ScheduledRate, RisesInEqualStepsDuringWarmup) {
  for (const std::string name : {"constant", "cosine"}) {
    const Options options = schedule(name, 0.1);
    for (int64_t n = 0; n < 20; ++n)
      EXPECT_NEAR(scheduled_rate(options, 2.1, 1, n), 0.1 * double(n + 1), 1e-14) << n;
    EXPECT_EQ(scheduled_rate(options, 2.1, 2, 0), 2.1);
  }
  EXPECT_EQ(scheduled_rate(schedule("constant", 0.1), 2.1, 9, 3), 2.1);
  EXPECT_NEAR(scheduled_rate(schedule("cosine", 0.1), 2.1, 6, 10), 2.1 / 2, 1e-14);
}

TEST(ClipRows, ScalesEachRowAsTorchClipsItsNorm) {
  RandomTensors random(3);
  const Tensor gradient =
      random.normal({4, kSize}) * torch::tensor({{0.01}, {1.0}, {30.0}, {0.0}}, torch::kFloat64);
  Tensor clipped = gradient.clone();
  clip_rows(clipped, 2.0);
  for (int64_t g = 0; g < 4; ++g) {
    Tensor row = torch::zeros({kSize}, torch::kFloat64).requires_grad_();
    row.mutable_grad() = gradient[g].clone();
    torch::nn::utils::clip_grad_norm_(row, 2.0);
    EXPECT_LT(largest_difference(clipped[g], row.grad()), 1e-14) << g;
  }
  EXPECT_TRUE(torch::equal(clipped[0], gradient[0]));
  Tensor untouched = gradient.clone();
  clip_rows(untouched, 0);
  EXPECT_TRUE(torch::equal(untouched, gradient));
}

TEST(CheckFinite, NamesTheFirstClientThatIsNot) {
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    Tensor rows = torch::ones({3, 4});
    EXPECT_NO_THROW(check_finite(rows, {5, 6, 7}, "loss", 2, 3));
    rows[1][2] = bad;
    try {
      check_finite(rows, {5, 6, 7}, "gradient", 2, 3);
      FAIL() << "nothing was thrown";
    } catch (const NumericalError& error) {
      EXPECT_NE(std::string(error.what())
                    .find("the gradient of client 6 is no longer finite in round 2, local step 3"),
                std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace pf2lora
