// Per-FedAvg: the meta-gradient by its three ways, and the adaptation that it prepares for.
#include <gtest/gtest.h>

#include "algorithm/methods.h"

namespace pf2lora {
namespace {

using torch::Tensor;

constexpr double kInner = 0.2;

// Rows of two clients, away from the start, and the direction of one local step there.
struct MetaPoint {
  SmallProblem problem;
  Options options;
  std::vector<int64_t> clients;
  PlainLevel plain;

  explicit MetaPoint(std::vector<int64_t> numbers, const std::string& head = "common",
                     torch::ScalarType type = torch::kFloat64)
      : problem({.targets = {"query", "value"}, .layers = {1}}, type),
        options(step_options(head)),
        clients(std::move(numbers)),
        plain(options, problem) {}

  std::unique_ptr<Algorithm> make(const std::string& mode, const std::string& norm = "5e-3") const {
    return make_method(
        "per-fedavg", options, problem,
        {{"meta-gradient", mode}, {"inner-learning-rate", "0.2"}, {"meta-difference-norm", norm}});
  }
  ClientGroup group(const Algorithm& algorithm) const { return random_group(algorithm, problem, clients); }
  // [G, P]: the adapters and the head, whoever owns it.
  static Tensor rows(const Algorithm& algorithm, const ClientGroup& group) {
    return torch::cat({algorithm.common_level(group).rows, algorithm.client_level(group).rows}, 1);
  }
  Tensor start() const {
    const auto algorithm = make("first-order");
    return rows(*algorithm, group(*algorithm));
  }
  // SGD of rate 1 moves the rows by the direction.
  Tensor direction(const std::string& mode, const std::string& norm = "5e-3") const {
    const auto algorithm = make(mode, norm);
    ClientGroup moving = group(*algorithm);
    const LocalReport report = algorithm->local_steps(moving, {.round = 2, .first_step = 3, .steps = 1});
    EXPECT_EQ(report.gradient_evaluations, mode == "first-order" ? 2 : 4);
    return start() - rows(*algorithm, moving);
  }
  Batch batch(int64_t slot) const { return problem.training_batch(clients, Purpose::batch, 2, 3, slot); }
  // w~ = w - a grad f(w; D1)
  Tensor adapted(const Tensor& w) const { return w - kInner * plain.gradient(batch(1), w); }

 private:
  static Options step_options(const std::string& head) {
    Options options = small_options();
    options.head = head;
    options.optimizer = "sgd";
    options.learning_rate = 1;
    return options;
  }
};

// Clients 0 and 1 hold so few examples that every batch is all of them: D3 = D1, and the direction is the
// gradient of w -> f(w - a grad f(w; D1); D2) itself.
TEST(MetaGradient, AgreesWithDifferencesOfTheLossAfterAdaptation) {
  for (const std::string head : {"common", "personal"}) {
    const MetaPoint point({0, 1}, head);
    ASSERT_EQ(point.batch(1).examples, point.batch(2).examples);
    const auto value = [&](const Tensor& w) { return point.plain.loss(point.batch(0), point.adapted(w)); };
    const Tensor w = point.start();
    constexpr double h = 1e-5;
    Tensor expected = torch::empty_like(w);
    for (int64_t i = 0; i < w.size(1); ++i) {
      Tensor ahead = w.clone(), behind = w.clone();
      ahead.select(1, i).add_(h);
      behind.select(1, i).sub_(h);
      expected.select(1, i).copy_((value(ahead) - value(behind)) / (2 * h));
    }
    const Tensor exact = point.direction("exact"), first_order = point.direction("first-order");
    for (int64_t g = 0; g < 2; ++g) {
      EXPECT_LT(relative_error(exact[g], expected[g]), 1e-6) << "client " << g << ", head " << head;
      EXPECT_GT(relative_error(first_order[g], expected[g]), 1e-2) << "client " << g << ", head " << head;
    }
  }
}

// Clients 2 and 4 draw three different batches: v = grad f(w~; D2), and Hess f(w; D3) v as the derivative of
// the gradient along v.
TEST(MetaGradient, TakesItsHessianFromTheThirdBatch) {
  for (const std::string head : {"common", "personal"}) {
    const MetaPoint point({2, 4}, head);
    const Tensor w = point.start();
    const Tensor v = point.plain.gradient(point.batch(0), point.adapted(w));
    const auto along_v = [&](int64_t slot) {
      constexpr double h = 1e-5;
      return (point.plain.gradient(point.batch(slot), w + h * v) -
              point.plain.gradient(point.batch(slot), w - h * v)) /
             (2 * h);
    };
    const Tensor exact = point.direction("exact");
    EXPECT_LT(relative_error(exact, v - kInner * along_v(2)), 1e-8);
    EXPECT_GT(relative_error(exact, v - kInner * along_v(1)), 1e-3);
    EXPECT_LT(relative_error(point.direction("first-order"), v), 1e-13);
  }
}

// The error of a central difference falls with the square of its step.
TEST(MetaGradient, ByDifferencesConvergesToTheExactOne) {
  for (const std::string head : {"common", "personal"}) {
    const MetaPoint point({2, 4}, head);
    const Tensor exact = point.direction("exact"), first_order = point.direction("first-order");
    const auto error = [&](const std::string& norm) {
      return relative_error(first_order - point.direction("finite-difference", norm), first_order - exact);
    };
    EXPECT_NEAR(error("1e-2") / error("1e-3"), 100, 10);
    EXPECT_LT(error("1e-4"), 1e-7);
    EXPECT_LT(error("5e-3"), 1e-3);
  }
}

// The norm of the step is each client's own: with the gradient of another client in the group nothing
// changes.
TEST(MetaGradient, OfALockstepGroupIsThatOfEachClientAlone) {
  for (const std::string mode : {"exact", "finite-difference", "first-order"}) {
    const MetaPoint point({2, 4});
    const auto algorithm = point.make(mode);
    const ClientGroup start = point.group(*algorithm);
    ClientGroup together{start.clients, start.common.clone(), start.own.clone()};
    algorithm->local_steps(together, {.round = 2, .steps = 1});
    for (int64_t g = 0; g < 2; ++g) {
      ClientGroup alone{{point.clients[size_t(g)]},
                        start.common.narrow(0, g, 1).clone(),
                        start.own.narrow(0, g, 1).clone()};
      algorithm->local_steps(alone, {.round = 2, .steps = 1});
      EXPECT_LT(relative_error(together.common[g], alone.common[0]), 1e-11) << mode;
    }
  }
}

TEST(MetaGradient, InFloatByDifferencesIsAccurateAtItsDefaultStep) {
  const MetaPoint wide({2, 4}), narrow({2, 4}, "common", torch::kFloat32);
  const Tensor curvature = wide.direction("first-order") - wide.direction("exact");
  const auto error = [&](const std::string& mode) {
    return relative_error(narrow.direction("first-order") - narrow.direction(mode), curvature);
  };
  EXPECT_LT(error("exact"), 1e-3);
  EXPECT_LT(error("finite-difference"), 1e-2);
}

// The outer rule is that of --optimizer.
TEST(PerFedAvg, StepsAlongTheMetaGradientByAdamW) {
  MetaPoint point({4});
  const Tensor w = point.start()[0];
  point.options.optimizer = "adamw";
  point.options.weight_decay = 0.1;
  point.options.learning_rate = 1e-2;
  const auto algorithm = point.make("exact");
  ClientGroup group = point.group(*algorithm);
  TorchAdamW expected(w, point.options);
  for (int64_t step = 0; step < 3; ++step) {
    const auto batch = [&](int64_t slot) {
      return point.problem.training_batch({4}, Purpose::batch, 1, step, slot);
    };
    const Tensor x = expected.row().unsqueeze(0);
    const Tensor v = point.plain.gradient(batch(0), x - kInner * point.plain.gradient(batch(1), x));
    constexpr double h = 1e-5;
    const Tensor curvature =
        (point.plain.gradient(batch(2), x + h * v) - point.plain.gradient(batch(2), x - h * v)) / (2 * h);
    expected.step((v - kInner * curvature)[0]);
  }
  algorithm->local_steps(group, {.round = 1, .steps = 3});
  EXPECT_LT(largest_difference(MetaPoint::rows(*algorithm, group)[0], expected.row()), 1e-8);
}

TEST(PerFedAvg, AdaptsByPlainGradientSteps) {
  for (const std::string head : {"common", "personal"}) {
    MetaPoint point({2, 4}, head);
    point.options.optimizer = "adamw";  // neither its moments nor its decay play a part
    point.options.weight_decay = 0.3;
    const auto algorithm = point.make("exact");
    ClientGroup group = point.group(*algorithm);
    Tensor w = MetaPoint::rows(*algorithm, group);
    const ClientGroup start{group.clients, group.common.clone(), group.own.clone()};
    for (int64_t step = 0; step < 4; ++step)
      w = w - kInner * point.plain.gradient(
                           point.problem.training_batch({2, 4}, Purpose::adaptation, 3, step, 0), w);
    const LocalReport report = algorithm->adapt(group, {Purpose::adaptation, 3, 0, 4});
    EXPECT_EQ(report.gradient_evaluations, 4);
    EXPECT_LT(largest_difference(MetaPoint::rows(*algorithm, group), w), 1e-13) << head;
    for (const std::string name : {"optimizer/AB/moment1", "optimizer/AB/steps"})
      EXPECT_TRUE(torch::equal(part(algorithm->client_layout(), group.own, name),
                               part(algorithm->client_layout(), start.own, name)))
          << name;
  }
}

}  // namespace
}  // namespace pf2lora
