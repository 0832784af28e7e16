#include "algorithm/pf2lora.h"

#include <gtest/gtest.h>
#include <torch/optim.h>

#include <cmath>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "algorithm/bilevel_objective.h"
#include "algorithm/one_level.h"
#include "algorithm/small_problem.h"

namespace pf2lora {
namespace {

using torch::Tensor;

constexpr double kClientRate = 0.2;

Pf2LoraOptions hypergradient(const std::string& mode, const std::string& scheme = "one-sided",
                             double norm = 0) {
  Pf2LoraOptions own;
  own.hypergradient = mode;
  own.finite_difference = scheme;
  own.finite_difference_norm = norm;
  return own;
}

// A point of the bilevel problem: rows of two clients, away from the start where the mixed term is small, and
// the batches pi and xi.
struct Point {
  SmallProblem problem;
  Options options;
  Tensor x, y;
  Batch lower, upper;

  explicit Point(const SmallTransformer& small = {}, const std::string& head = "common",
                 torch::ScalarType type = torch::kFloat64)
      : problem(small, type), options(small_options()) {
    options.head = head;
    const auto size = make("exact");
    RandomTensors random(5);
    const ClientGroup group = start_group(size, problem, {1, 4});
    x = random.normal({2, size.common_level(group).level->size()}, 0.25).to(type);
    y = random.normal({2, size.client_level(group).level->size()}, 0.25).to(type);
    lower = problem.training_batch({1, 4}, Purpose::batch, 2, 3, 1);
    upper = problem.training_batch({1, 4}, Purpose::batch, 2, 3, 0);
  }
  Pf2Lora make(const std::string& mode, const std::string& scheme = "one-sided", double norm = 0) const {
    return {options, hypergradient(mode, scheme, norm), problem};
  }
  Pf2Lora::Step step(const Pf2Lora& algorithm) const {
    return algorithm.bilevel_step(x, y, lower, upper, kClientRate);
  }
};

BilevelObjective objective_of(const Point& point) {
  return {point.problem, point.options, point.lower, point.upper, kClientRate};
}

// Every coordinate of x by a central difference.
Tensor difference_gradient(const BilevelObjective& objective, const Point& point) {
  Tensor gradient = torch::empty_like(point.x);
  for (int64_t i = 0; i < point.x.size(1); ++i) {
    Tensor along = torch::zeros_like(point.x);
    along.select(1, i).fill_(1);
    gradient.select(1, i).copy_(objective.slope(point.x, point.y, along));
  }
  return gradient;
}

// The whole hypergradient, of both clients at once, against differences of the bilevel objective.
TEST(Hypergradient, AgreesWithDifferencesOfTheBilevelObjective) {
  const SmallTransformer cls{.targets = {"query", "value"}};
  SmallTransformer mean = cls, top = cls;
  mean.pooling = Pooling::mean;
  mean.targets = {"value", "output"};
  top.layers = {1};
  for (const auto& [small, head] : {std::pair{cls, "common"}, {mean, "common"}, {top, "personal"}}) {
    const Point point(small, head);
    const BilevelObjective objective = objective_of(point);
    const Tensor expected = difference_gradient(objective, point);
    const Pf2Lora::Step exact = point.step(point.make("exact"));
    const Pf2Lora::Step first_order = point.step(point.make("first-order"));
    for (int64_t g = 0; g < 2; ++g) {
      const double error = relative_error(exact.hypergradient[g], expected[g]);
      EXPECT_LT(error, 1e-6) << "client " << g;
      // The mixed term is a part of it that matters, so that leaving it out would be seen.
      EXPECT_GT(relative_error(first_order.hypergradient[g], expected[g]), 1e-2) << "client " << g;
      std::cout << "client " << g << ": exact " << error << ", first-order "
                << relative_error(first_order.hypergradient[g], expected[g]) << "\n";
    }
    EXPECT_LT(relative_error(exact.next_client, objective.next_client(point.x, point.y)), 1e-14);
    EXPECT_LT(relative_error(exact.loss, objective.value(point.x, point.y)), 1e-13);
    EXPECT_TRUE(torch::equal(first_order.next_client, exact.next_client));
  }
}

TEST(Hypergradient, OfALockstepGroupIsThatOfEachClientAlone) {
  const Point point;
  const Pf2Lora algorithm = point.make("exact");
  const Pf2Lora::Step together = point.step(algorithm);
  for (int64_t g = 0; g < 2; ++g) {
    const Pf2Lora::Step alone = algorithm.bilevel_step(point.x.narrow(0, g, 1), point.y.narrow(0, g, 1),
                                                       batch_of(point.lower, size_t(g)),
                                                       batch_of(point.upper, size_t(g)), kClientRate);
    EXPECT_LT(relative_error(together.hypergradient[g], alone.hypergradient[0]), 1e-12);
    EXPECT_LT(relative_error(together.next_client[g], alone.next_client[0]), 1e-12);
  }
}

TEST(Hypergradient, CountsItsGradients) {
  const Point point;
  EXPECT_EQ(point.step(point.make("exact")).gradient_evaluations, 3);
  EXPECT_EQ(point.step(point.make("finite-difference")).gradient_evaluations, 3);
  EXPECT_EQ(point.step(point.make("finite-difference", "central")).gradient_evaluations, 4);
  EXPECT_EQ(point.step(point.make("first-order")).gradient_evaluations, 2);
  EXPECT_EQ(point.make("joint").joint_step(point.x, point.y, point.upper, kClientRate).gradient_evaluations,
            1);
}

// Errors of the mixed term, relative to the exact one in double, of the worse client.
double mixed_error(const Point& point, const Pf2Lora& algorithm, const Tensor& exact) {
  const Tensor direct = point.step(point.make("first-order")).hypergradient;
  const Tensor mixed = (direct - point.step(algorithm).hypergradient) / kClientRate;
  return std::max(relative_error(mixed[0], exact[0]), relative_error(mixed[1], exact[1]));
}

Tensor exact_mixed_term(const Point& point) {
  return (point.step(point.make("first-order")).hypergradient -
          point.step(point.make("exact")).hypergradient) /
         kClientRate;
}

// In double the error of the one-sided difference falls with its step, that of the central one with the
// square.
TEST(FiniteDifference, ConvergesToTheExactMixedTermInDouble) {
  const Point point;
  const Tensor exact = exact_mixed_term(point);
  const auto error = [&](const std::string& scheme, double norm) {
    return mixed_error(point, point.make("finite-difference", scheme, norm), exact);
  };
  EXPECT_NEAR(error("one-sided", 1e-3) / error("one-sided", 1e-4), 10, 1);
  EXPECT_NEAR(error("central", 1e-2) / error("central", 1e-3), 100, 10);
  EXPECT_LT(error("one-sided", 1e-6), 1e-5);
  EXPECT_LT(error("central", 1e-4), 1e-7);
}

// In float the rounding of the gradients sets the other limit. The defaults (1e-3 one-sided, 5e-3 central)
// lie where both are small.
TEST(FiniteDifference, InFloatIsAccurateAtItsDefaultSteps) {
  const Point wide;
  const Point narrow({}, "common", torch::kFloat32);
  const Tensor exact = exact_mixed_term(wide);
  EXPECT_LT(mixed_error(narrow, narrow.make("exact"), exact), 1e-4);
  std::ostringstream table;
  table << "norm of the step   one-sided     central   (relative error of the mixed term in float32)\n";
  for (const double norm : {1e-4, 3e-4, 1e-3, 3e-3, 5e-3, 1e-2, 3e-2, 1e-1}) {
    table << std::setw(16) << norm;
    for (const std::string scheme : {"one-sided", "central"})
      table << std::setw(12) << std::setprecision(3)
            << mixed_error(narrow, narrow.make("finite-difference", scheme, norm), exact);
    table << "\n";
  }
  std::cout << table.str();
  RecordProperty("finite_difference_errors", table.str());
  const double one_sided = mixed_error(narrow, narrow.make("finite-difference"), exact);
  const double central = mixed_error(narrow, narrow.make("finite-difference", "central"), exact);
  EXPECT_LT(one_sided, 1e-2);
  EXPECT_LT(central, 1e-3);
  EXPECT_EQ(one_sided, mixed_error(narrow, narrow.make("finite-difference", "one-sided", 1e-3), exact));
  EXPECT_EQ(central, mixed_error(narrow, narrow.make("finite-difference", "central", 5e-3), exact));
}

// The paper's 'without bilevel': both levels step on the gradient of one batch.
TEST(JointStep, MovesBothLevelsAlongOneGradient) {
  const Point point;
  const Pf2Lora algorithm = point.make("joint");
  const Pf2Lora::Step joint = algorithm.joint_step(point.x, point.y, point.upper, kClientRate);
  // With both batches the same and rate 0, the direct term of a bilevel step is grad_x at (x, y).
  const Pf2Lora::Step still =
      point.make("first-order").bilevel_step(point.x, point.y, point.upper, point.upper, 0);
  EXPECT_TRUE(torch::equal(joint.hypergradient, still.hypergradient));
  EXPECT_TRUE(torch::equal(joint.loss, still.loss));
  const Pf2Lora::Step moved =
      point.make("first-order").bilevel_step(point.x, point.y, point.upper, point.upper, kClientRate);
  EXPECT_TRUE(torch::equal(joint.next_client, moved.next_client));
}

TEST(Pf2Lora, OfClientRankZeroIsHomLoraBitForBit) {
  const SmallProblem problem;
  for (const std::string optimizer_state : {"keep", "average", "reset"})
    for (const std::string mode : {"exact", "first-order"}) {
      Options options = small_options();
      options.optimizer_state = optimizer_state;
      options.client_rank = 0;
      options.weight_decay = 0.1;
      options.clip = 0.5;
      const Pf2Lora two(options, hypergradient(mode), problem);
      const OneLevel one(options, problem, Owner::common);
      EXPECT_FALSE(two.is_personal());
      EXPECT_EQ(two.sum_size(1), one.sum_size(1));
      ClientGroup a = start_group(two, problem, {0, 3}), b = start_group(one, problem, {0, 3});
      for (int64_t round = 1; round <= 2; ++round) {
        const LocalReport first = two.local_steps(a, {.round = round, .steps = 4});
        const LocalReport second = one.local_steps(b, {.round = round, .steps = 4});
        EXPECT_EQ(first.loss, second.loss);
        EXPECT_EQ(first.gradient_evaluations, second.gradient_evaluations);
        EXPECT_TRUE(torch::equal(a.common, b.common));
        EXPECT_TRUE(torch::equal(a.own, b.own));
        a.common.copy_(average(two, {a}).expand_as(a.common));
        b.common.copy_(average(one, {b}).expand_as(b.common));
        EXPECT_TRUE(torch::equal(a.common, b.common));
      }
    }
}

// Local steps are bilevel steps on the batches of slots 1 and 0, AdamW on x, y taken from the lower level.
TEST(Pf2Lora, LocalStepsAreBilevelStepsUnderTorchsAdamW) {
  const Point point;
  const Pf2Lora algorithm = point.make("exact");
  ClientGroup group = start_group(algorithm, point.problem, {1, 4});
  Tensor y = algorithm.client_level(group).rows.clone();
  std::vector<Tensor> x;
  std::vector<torch::optim::AdamW> optimizers;
  for (int64_t g = 0; g < 2; ++g) {
    x.push_back(algorithm.common_level(group).rows[g].clone().requires_grad_());
    optimizers.emplace_back(std::vector<Tensor>{x.back()},
                            torch::optim::AdamWOptions(point.options.learning_rate).weight_decay(0));
  }
  const LocalReport report = algorithm.local_steps(group, {.round = 2, .steps = 4});
  for (int64_t step = 0; step < 4; ++step) {
    const auto batch = [&](int64_t slot) {
      return point.problem.training_batch({1, 4}, Purpose::batch, 2, step, slot);
    };
    const Pf2Lora::Step expected =
        algorithm.bilevel_step(torch::stack({x[0].detach(), x[1].detach()}), y, batch(1), batch(0),
                               point.options.client_learning_rate);
    y = expected.next_client;
    for (int64_t g = 0; g < 2; ++g) {
      x[size_t(g)].mutable_grad() = expected.hypergradient[g].clone();
      optimizers[size_t(g)].step();
    }
  }
  EXPECT_EQ(report.gradient_evaluations, 12);
  EXPECT_LT(largest_difference(algorithm.client_level(group).rows, y), 1e-11);
  for (int64_t g = 0; g < 2; ++g)
    EXPECT_LT(largest_difference(algorithm.common_level(group).rows[g], x[size_t(g)].detach()), 1e-11);
}

// Every client starts from the same common pair and from a pair of its own that adds nothing yet.
TEST(Pf2Lora, StartsFromOneCommonPairAndItsClientsOwn) {
  const Point point;
  const Pf2Lora algorithm = point.make("exact");
  const ClientGroup group = start_group(algorithm, point.problem, {0, 1, 2});
  EXPECT_TRUE(torch::equal(group.common[0], group.common[2]));
  EXPECT_FALSE(torch::equal(group.own[0], group.own[1]));
  const LevelRows client = algorithm.client_level(group);
  EXPECT_EQ(client.level->up(client.rows, 0).abs().max().item<double>(), 0);
  EXPECT_GT(client.level->down(client.rows, 0).abs().min().item<double>(), 0);
  const Batch batch = point.problem.training_batch({0, 1, 2}, Purpose::batch, 1, 0, 0);
  EXPECT_LT(largest_difference(point.problem.model().loss(batch, algorithm.personal_model(group)).loss,
                               point.problem.model().loss(batch, *algorithm.common_model(group.common)).loss),
            1e-14);
}

}  // namespace
}  // namespace pf2lora
