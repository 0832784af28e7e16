// Scores after adaptation, on the matrix problem, whose loss is f_k.
#include "simulation/evaluation.h"

#include <gtest/gtest.h>

#include "algorithm/methods.h"
#include "model/matrix_problem.h"

namespace pf2lora {
namespace {

Options matrix_options(const std::string& state) {
  Options options;
  options.problem = "matrix";
  options.clients = 3;
  options.rank = 4;
  options.client_rank = 1;
  options.optimizer_state = state;
  options.learning_rate = 0.05;
  options.client_learning_rate = 0.02;
  return options;
}

std::vector<double> adapted_losses(const Algorithm& algorithm, const Problem& problem,
                                   const ClientGroup& group, const std::vector<int64_t>& steps) {
  std::vector<double> losses;
  for (const ClientScores& scores : evaluate(algorithm, problem, group, {.adaptation_steps = steps}, 2))
    losses.push_back(scores.test.adapted.back().loss);
  return losses;
}

// Whatever is measured on the way to step 10, and whatever becomes of the optimiser's state between rounds.
TEST(Evaluate, AdaptsByTenStepsAlikeWhereverItMeasuresOnTheWay) {
  for (const std::string state : {"keep", "average", "reset"}) {
    const Options options = matrix_options(state);
    const MatrixProblem problem(options);
    for (const std::string name :
         {"pf2lora", "homlora", "local", "hetlora", "per-fedavg", "flora", "ditto"}) {
      SCOPED_TRACE(name + ", state " + state);
      const auto algorithm = make_method(name, options, problem);
      ClientGroup group = start_group(*algorithm, problem, {0, 2});
      algorithm->local_steps(group, {.round = 1, .steps = 3});
      const torch::Tensor common = group.common.clone(), own = group.own.clone();
      const auto at_once = adapted_losses(*algorithm, problem, group, {10});
      EXPECT_EQ(adapted_losses(*algorithm, problem, group, {0, 1, 5, 10}), at_once);
      EXPECT_NE(adapted_losses(*algorithm, problem, group, {1, 5}), at_once);
      EXPECT_TRUE(torch::equal(group.common, common));
      EXPECT_TRUE(torch::equal(group.own, own));
      // The same steps outside of an evaluation.
      algorithm->adapt(group, {Purpose::adaptation, 2, 0, 10});
      const Losses losses = problem.model().loss(problem.evaluation_batches({0, 2}, Split::test).at(0),
                                                 algorithm->personal_model(group));
      for (int64_t g = 0; g < 2; ++g) EXPECT_EQ(losses.loss[g].item<double>(), at_once[size_t(g)]);
    }
  }
}

}  // namespace
}  // namespace pf2lora
