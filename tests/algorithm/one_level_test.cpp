// HOMLoRA, FedIT and local-only training, and what every method shares: averages, optimiser state, heads.
#include "algorithm/one_level.h"

#include <gtest/gtest.h>
#include <torch/optim.h>

#include "algorithm/methods.h"
#include "algorithm/registry.h"
#include "core/error.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// Groups whose common rows are random, as if trained.
std::vector<ClientGroup> random_groups(const Algorithm& algorithm,
                                       const std::vector<std::vector<int64_t>>& clients) {
  RandomTensors random(4);
  std::vector<ClientGroup> groups;
  for (const auto& numbers : clients)
    groups.push_back(
        {numbers, random.normal({int64_t(numbers.size()), algorithm.common_layout().size()}),
         torch::zeros({int64_t(numbers.size()), algorithm.client_layout().size()}, torch::kFloat64)});
  return groups;
}

TEST(Average, IsTheMeanOfTheClientsInAnyOrder) {
  const SmallProblem problem;
  for (const std::string name : {"homlora", "pf2lora"}) {
    const auto algorithm = make_method(name, small_options(), problem);
    const auto groups = random_groups(*algorithm, {{0, 3}, {1, 4}, {2}});
    const Tensor mean = torch::cat({groups[0].common, groups[1].common, groups[2].common}).mean(0);
    const Tensor found = average(*algorithm, groups);
    EXPECT_LT(largest_difference(found, mean), 1e-15) << name;
    EXPECT_TRUE(torch::equal(average(*algorithm, {groups[2], groups[0], groups[1]}), found)) << name;
  }
}

// Client k of the problem holds k + 3 examples.
TEST(Average, OfFedItWeighsClientsByTheirExamples) {
  const SmallProblem problem;
  const auto algorithm = make_method("fedit", small_options(), problem);
  const auto groups = random_groups(*algorithm, {{0, 4}, {2}});
  const Tensor& pair = groups[0].common;
  const Tensor mean = (3 * pair[0] + 7 * pair[1] + 5 * groups[1].common[0]) / 15;
  EXPECT_LT(largest_difference(average(*algorithm, groups), mean), 1e-15);
}

TEST(Average, NamesNothingThatStaysWithAClient) {
  const SmallProblem problem;
  const auto algorithm = make_method("pf2lora", small_options(), problem);
  EXPECT_EQ(algorithm->sum_size(1), algorithm->common_layout().size() + 1);
  const std::string site = problem.model().sites()[0].name;
  EXPECT_TRUE(has_slice(algorithm->common_layout(), site + "/A"));
  EXPECT_FALSE(has_slice(algorithm->common_layout(), site + "/C"));
  EXPECT_TRUE(has_slice(algorithm->client_layout(), site + "/C"));
  EXPECT_FALSE(has_slice(algorithm->common_layout(), "optimizer/"));
}

TEST(Local, NeverSendsAnything) {
  const SmallProblem problem;
  for (const std::string head : {"common", "personal"}) {
    Options options = small_options();
    options.head = head;
    const auto algorithm = make_method("local", options, problem);
    EXPECT_EQ(algorithm->common_layout().size(), 0);
    EXPECT_EQ(algorithm->sum_size(1), 0);
    EXPECT_TRUE(has_slice(algorithm->client_layout(), "head/weight"));
    ClientGroup group = start_group(*algorithm, problem, {1, 2});
    EXPECT_TRUE(torch::equal(group.own[0], group.own[1]));
    algorithm->local_steps(group, {.steps = 2});
    EXPECT_FALSE(torch::equal(group.own[0], group.own[1]));
    const Tensor before = group.own.clone();
    ExactSum sum(0);
    algorithm->contribute(group, 1, sum);
    algorithm->aggregate(group.common[0], 1, sum);
    EXPECT_TRUE(torch::equal(group.own, before));
    EXPECT_TRUE(algorithm->is_personal());
    EXPECT_FALSE(algorithm->common_model(group.common).has_value());
  }
}

// One client moved by torch's own AdamW along the model's gradients, batches of both rounds as they are
// drawn.
Tensor torch_trajectory(const Options& options, const SmallProblem& problem, bool keeps_state) {
  const Level level(problem.model().sites(), options.rank, problem.scale(options.rank), {"A", "B"},
                    problem.model().head());
  Tensor x = torch::empty({level.size()}, torch::kFloat64);
  KeyedRandom random(uint64_t(options.seed), Purpose::common_initial);
  level.initialise(x, random);
  x.requires_grad_();
  std::unique_ptr<torch::optim::AdamW> optimizer;
  for (int64_t round = 1; round <= 2; ++round) {
    if (!optimizer || !keeps_state)
      optimizer = std::make_unique<torch::optim::AdamW>(
          std::vector<Tensor>{x},
          torch::optim::AdamWOptions(options.learning_rate).weight_decay(options.weight_decay));
    for (int64_t step = 0; step < options.local_steps; ++step) {
      const std::array levels = {&level};
      const std::array rows = {x.detach().unsqueeze(0)};
      const Batch batch = problem.training_batch({2}, Purpose::batch, round, step, 0);
      const Gradient gradient = problem.model().gradient(batch, compose(levels, rows), Keep::nothing);
      x.mutable_grad() = split(levels, gradient.rows)[0][0];
      optimizer->step();
    }
  }
  return x.detach();
}

Tensor two_rounds(const Algorithm& algorithm, const Options& options, const SmallProblem& problem) {
  ClientGroup group = start_group(algorithm, problem, {2});
  for (int64_t round = 1; round <= 2; ++round) {
    algorithm.local_steps(group, {.round = round, .steps = options.local_steps});
    group.common[0].copy_(average(algorithm, {group}));
  }
  return algorithm.common_level(group).rows[0];
}

TEST(OptimizerState, KeptOrResetIsOneOrTwoOptimisersOfTorch) {
  const SmallProblem problem;
  Options options = small_options();
  options.weight_decay = 0.1;
  const Tensor one = torch_trajectory(options, problem, true),
               two = torch_trajectory(options, problem, false);
  EXPECT_GT(largest_difference(one, two), 1e-3);
  for (const std::string name : {"homlora", "fedit"}) {
    options.optimizer_state = "keep";
    EXPECT_LT(largest_difference(two_rounds(*make_method(name, options, problem), options, problem), one),
              1e-11)
        << name;
    options.optimizer_state = "reset";
    EXPECT_LT(largest_difference(two_rounds(*make_method(name, options, problem), options, problem), two),
              1e-11)
        << name;
    // Of one client, the average of states is its own state, rounded to the unit 2^-60 of exact sums.
    options.optimizer_state = "average";
    EXPECT_LT(largest_difference(two_rounds(*make_method(name, options, problem), options, problem), one),
              1e-7)
        << name;
  }
}

TEST(OptimizerState, LivesWhereTheOptionSays) {
  const SmallProblem problem;
  Options options = small_options();
  const auto layouts = [&](const std::string& state) {
    options.optimizer_state = state;
    const auto algorithm = make_method("homlora", options, problem);
    return std::pair{has_slice(algorithm->common_layout(), "optimizer/"),
                     has_slice(algorithm->client_layout(), "optimizer/")};
  };
  EXPECT_EQ(layouts("keep"), (std::pair{false, true}));
  EXPECT_EQ(layouts("average"), (std::pair{true, false}));
  EXPECT_EQ(layouts("reset"), (std::pair{false, false}));
}

TEST(OptimizerState, AveragedIsTheMeanOfTheClientsMoments) {
  const SmallProblem problem;
  Options options = small_options();
  options.optimizer_state = "average";
  const auto averaging = make_method("homlora", options, problem);
  options.optimizer_state = "keep";
  const auto keeping = make_method("homlora", options, problem);
  ClientGroup one = start_group(*averaging, problem, {0, 3}), other = start_group(*keeping, problem, {0, 3});
  averaging->local_steps(one, {.steps = 3});
  keeping->local_steps(other, {.steps = 3});
  const Tensor common = average(*averaging, {one}).unsqueeze(0);
  for (const std::string name : {"moment1", "moment2", "steps"}) {
    const std::string slice = "optimizer/AB/" + name;
    const Tensor mean = view(other.own, keeping->client_layout().find(slice)).mean(0);
    EXPECT_LT(largest_difference(view(common, averaging->common_layout().find(slice))[0], mean), 1e-15)
        << name;
    EXPECT_GT(mean.abs().max().item<double>(), 1e-9);
  }
}

TEST(Head, StaysWithItsClientWhereItIsPersonal) {
  const SmallProblem problem;
  Options options = small_options();
  options.head = "personal";
  for (const std::string name : {"homlora", "pf2lora"}) {
    const auto algorithm = make_method(name, options, problem);
    EXPECT_FALSE(has_slice(algorithm->common_layout(), "head/")) << name;
    EXPECT_TRUE(algorithm->is_personal());
    ClientGroup group = start_group(*algorithm, problem, {1, 3});
    const Slice& head = algorithm->client_layout().find("head/weight");
    const Tensor start = view(group.own, head).clone();
    algorithm->local_steps(group, {.steps = 2});
    const Tensor trained = view(group.own, head).clone();
    EXPECT_GT(largest_difference(trained, start), 1e-3) << name;
    group.common.copy_(average(*algorithm, {group}).expand_as(group.common));
    EXPECT_TRUE(torch::equal(algorithm->personal_model(group).head_weight, trained)) << name;
    EXPECT_GT(largest_difference(trained[0], trained[1]), 1e-3) << name;
    EXPECT_FALSE(algorithm->common_model(group.common).has_value()) << name;
  }
}

TEST(LocalSteps, ReportTheMeanOfTheLossesBeforeEachStep) {
  const SmallProblem problem;
  const auto algorithm = make_method("homlora", small_options(), problem);
  ClientGroup group = start_group(*algorithm, problem, {0, 4}),
              again = start_group(*algorithm, problem, {0, 4});
  const LocalReport report = algorithm->local_steps(group, {.round = 3, .first_step = 1, .steps = 4});
  EXPECT_EQ(report.gradient_evaluations, 4);
  std::vector<double> sum(2, 0);
  for (int64_t step = 1; step < 5; ++step) {
    const Batch batch = problem.training_batch({0, 4}, Purpose::batch, 3, step, 0);
    const Tensor losses = problem.model().loss(batch, algorithm->personal_model(again)).loss;
    sum[0] += losses.slice(0, 0, 3).mean().item<double>();  // client 0 holds 3 examples, client 4 draws 4
    sum[1] += losses.slice(0, 3, 7).mean().item<double>();
    algorithm->local_steps(again, {.round = 3, .first_step = step, .steps = 1});
  }
  EXPECT_NEAR(report.loss[0], sum[0] / 4, 1e-13);
  EXPECT_NEAR(report.loss[1], sum[1] / 4, 1e-13);
  EXPECT_LT(largest_difference(group.common, again.common), 1e-14);
}

TEST(LocalSteps, OfALossThatIsNotFiniteNameClientRoundAndStep) {
  const SmallProblem problem;
  for (const std::string name : {"homlora", "pf2lora", "local"}) {
    const auto algorithm = make_method(name, small_options(), problem);
    ClientGroup group = start_group(*algorithm, problem, {1, 4});
    const Tensor rows = algorithm->common_level(group).level->rank() > 0
                            ? algorithm->common_level(group).rows
                            : algorithm->client_level(group).rows;
    rows[1].fill_(std::nan(""));
    try {
      algorithm->local_steps(group, {.round = 6, .first_step = 2, .steps = 3});
      ADD_FAILURE() << "nothing was thrown by " << name;
    } catch (const NumericalError& error) {
      EXPECT_NE(
          std::string(error.what()).find("loss of client 4 is no longer finite in round 6, local step 2"),
          std::string::npos)
          << error.what();
      EXPECT_EQ(error.code(), ExitCode::numerical_failure);
    }
  }
}

// The first step of an absurd rate is still taken from a finite loss.
TEST(LocalSteps, NameTheStepAtWhichTheLossWasLost) {
  const SmallProblem problem;
  Options options = small_options();
  options.optimizer = "sgd";
  options.learning_rate = 1e200;
  const auto algorithm = make_method("homlora", options, problem);
  ClientGroup group = start_group(*algorithm, problem, {1, 4});
  try {
    algorithm->local_steps(group, {.round = 1, .steps = 3});
    FAIL() << "nothing was thrown";
  } catch (const NumericalError& error) {
    EXPECT_NE(std::string(error.what()).find("of client 1 is no longer finite in round 1, local step 1"),
              std::string::npos)
        << error.what();
  }
}

TEST(Registry, ListsEveryMethodOnceWithADescription) {
  std::set<std::string> names;
  for (const AlgorithmRow& row : algorithms()) {
    EXPECT_FALSE(row.description.empty());
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(find_algorithm(row.name).make, row.make);
  }
  EXPECT_EQ(find_algorithm("centralized").demands.pool, TrainingPool::all_as_one);
  EXPECT_THROW(find_algorithm("fedavg2"), std::out_of_range);
}

}  // namespace
}  // namespace pf2lora
