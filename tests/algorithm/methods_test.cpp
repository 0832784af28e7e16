// What holds for every method of the registry: rows stay finite, clients in lockstep do not touch each other,
// averages are means of what was sent and of nothing else; and what a round costs.
#include "algorithm/methods.h"

#include <gtest/gtest.h>

namespace pf2lora {
namespace {

using torch::Tensor;

Options with(const std::string& head, const std::string& state) {
  Options options = small_options();
  options.clients = 5;
  options.head = head;
  options.optimizer_state = state;
  options.weight_decay = 0.05;
  options.clip = 2;
  return options;
}

// The centralised client is number 0, alone.
std::vector<ClientGroup> some_groups(const std::string& name, const Algorithm& algorithm,
                                     const Problem& problem) {
  if (find_algorithm(name).demands.pool == TrainingPool::all_as_one)
    return {start_group(algorithm, problem, {0})};
  return {start_group(algorithm, problem, {0, 3}), start_group(algorithm, problem, {1})};
}

TEST(EveryMethod, LearnsWithFiniteRowsWhateverTheHeadAndTheOptimizerState) {
  const SmallProblem problem(two_sites());
  for (const AlgorithmRow& row : algorithms())
    for (const std::string head : {"common", "personal"})
      for (const std::string state : {"keep", "average", "reset"}) {
        SCOPED_TRACE(row.name + ", head " + head + ", state " + state);
        const auto algorithm = make_method(row.name, with(head, state), problem);
        auto groups = some_groups(row.name, *algorithm, problem);
        const Batch batch = problem.training_batch(groups[0].clients, Purpose::adaptation, 1, 0, 0);
        const auto loss = [&] {
          const Losses losses = algorithm->personal_predictor(groups[0])(batch);
          return losses.loss.mean().item<double>();
        };
        const double before = loss();
        for (int64_t round = 1; round <= 3; ++round) play_round(*algorithm, groups, round, 3);
        for (const ClientGroup& group : groups) {
          EXPECT_TRUE(group.common.isfinite().all().item<bool>());
          EXPECT_TRUE(group.own.isfinite().all().item<bool>());
        }
        EXPECT_NE(loss(), before);
        ClientGroup& group = groups[0];
        algorithm->adapt(group, {Purpose::adaptation, 3, 0, 10});
        EXPECT_TRUE(group.common.isfinite().all().item<bool>());
        EXPECT_TRUE(group.own.isfinite().all().item<bool>());
        EXPECT_LT(loss(), before);
      }
}

TEST(EveryMethod, TrainsAGroupAsItTrainsEachClientAlone) {
  const SmallProblem problem(two_sites());
  for (const AlgorithmRow& row : algorithms())
    for (const std::string head : {"common", "personal"}) {
      SCOPED_TRACE(row.name + ", head " + head);
      const auto algorithm = make_method(row.name, with(head, "keep"), problem);
      ClientGroup together = start_group(*algorithm, problem, {1, 4});
      const LocalReport report = algorithm->local_steps(together, {.round = 1, .steps = 3});
      for (int64_t g = 0; g < 2; ++g) {
        ClientGroup alone = start_group(*algorithm, problem, {together.clients[size_t(g)]});
        const LocalReport one = algorithm->local_steps(alone, {.round = 1, .steps = 3});
        EXPECT_TRUE(torch::allclose(together.common[g], alone.common[0], 0, 1e-9));
        EXPECT_TRUE(torch::allclose(together.own[g], alone.own[0], 0, 1e-9));
        EXPECT_NEAR(report.loss[size_t(g)], one.loss[0], 1e-10);
        EXPECT_EQ(report.gradient_evaluations, one.gradient_evaluations);
      }
    }
}

// Of the methods that send blocks of the common row: every block becomes the weighted mean over the clients,
// moments that are averaged too, and what is not sent keeps its bits at the server and at the clients.
TEST(EveryMethod, AveragesTheBlocksThatAreSentAndNothingElse) {
  const SmallProblem problem(two_sites());
  for (const std::string name :
       {"pf2lora", "homlora", "fedit", "per-fedavg", "ffa-lora", "rolora", "fedsa-lora", "ditto", "fedper",
        "fedrep", "feddpa-f", "feddpa-t", "fedfmsl", "prompt", "prefix"})
    for (const std::string head : {"common", "personal"})
      for (const std::string state : {"keep", "average", "reset"}) {
        const auto algorithm = make_method(name, with(head, state), problem);
        auto groups = some_groups(name, *algorithm, problem);
        // Client k of the problem holds k + 3 examples.
        const Tensor weights = name == "fedit" ? torch::tensor({3.0, 6.0, 4.0}, torch::kFloat64)
                                               : torch::ones({3}, torch::kFloat64);
        for (int64_t round = 1; round <= 3; ++round) {
          SCOPED_TRACE(name + ", head " + head + ", state " + state + ", round " + std::to_string(round));
          const Tensor before = groups[0].common[0].clone();
          for (ClientGroup& group : groups) algorithm->local_steps(group, {.round = round, .steps = 2});
          const Tensor rows = torch::cat({groups[0].common, groups[1].common});
          const Tensor mean = (weights.unsqueeze(1) * rows).sum(0) / weights.sum();
          const Tensor common = aggregated(*algorithm, groups, before, round);
          Tensor sent = torch::zeros_like(before);
          for (const Block& block : algorithm->sent_blocks(round))
            sent.narrow(0, block.offset, block.size) += 1;
          ASSERT_EQ(sent.max().item<double>(), 1);
          EXPECT_LT(largest_difference(common * sent, mean * sent), 1e-14);
          EXPECT_TRUE(torch::equal(common * (1 - sent), before * (1 - sent)));
          for (int64_t g = 0; g < 3; ++g)
            EXPECT_TRUE(torch::equal(rows[g] * (1 - sent), before * (1 - sent)));
          EXPECT_GT(largest_difference(common, before), 1e-3);
          for (ClientGroup& group : groups) group.common.copy_(common.expand_as(group.common));
        }
      }
}

// Sites value [12, 12] and intermediate [20, 12], rank 3, head [4, 12] and [4]: A has 2 * 36 = 72 numbers, B
// 36 + 60 = 96, the head 52, together 220. AdamW keeps 2 n + 1 numbers of n.
TEST(Cost, IsAsCountedByHand) {
  const SmallProblem problem(two_sites());
  struct Case {
    std::string name;
    int64_t round;
    ClientCost cost;  // sent, received, trained, kept, rank of client 0
  };
  const std::vector<Case> cases = {
      {"homlora", 1, {220, 220, 220, 441, 3}},
      {"fedit", 1, {220, 220, 220, 441, 3}},
      {"centralized", 1, {220, 220, 220, 441, 3}},
      {"per-fedavg", 1, {220, 220, 220, 441, 3}},
      // C and D of rank 2 have 48 + 64 = 112 numbers, moved by SGD.
      {"pf2lora", 1, {220, 220, 220 + 112, 441 + 112, 3 + 2}},
      {"local", 1, {0, 0, 220, 220 + 441, 3}},
      // Rank 2 of 3: 48 + 64 + 52; the rank is kept too.
      {"hetlora", 1, {164, 164, 164, 2 * 164 + 1 + 1, 2}},
      {"flexlora", 1, {164, 164, 164, 0, 2}},
      {"ffa-lora", 1, {96 + 52, 96 + 52, 96 + 52, 2 * 148 + 1, 3}},
      {"rolora", 1, {96 + 52, 96 + 52, 96 + 52, 145 + 193 + 105, 3}},
      {"rolora", 2, {72 + 52, 72 + 52, 72 + 52, 145 + 193 + 105, 3}},
      {"fedsa-lora", 1, {72 + 52, 72 + 52, 220, 96 + 145 + 193 + 105, 3}},
      // The pairs of five clients, and the head; the dense update may have any rank up to 12.
      {"flora", 1, {220, 5 * 168 + 52, 220, 0, 12}},
      // The dense update has 144 + 240 numbers.
      {"fedex-lora", 1, {220, 220 + 384, 220, 441, 12}},
      // Two levels are trained and a pair of rank 3 is deployed; whether it has begun is kept too.
      {"ditto", 1, {220, 220, 440, 220 + 441 + 441 + 1, 3}},
      {"fedper", 1, {168, 168, 220, 337 + 52 + 105, 3}},
      {"fedrep", 1, {168, 168, 220, 337 + 52 + 105, 3}},
  };
  Options options = small_options();
  options.clients = 5;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const auto algorithm = make_method(c.name, options, problem);
    const ClientCost cost = algorithm->cost(start_group(*algorithm, problem, {0, 1}), 0, c.round);
    EXPECT_EQ(cost.sent, c.cost.sent);
    EXPECT_EQ(cost.received, c.cost.received);
    EXPECT_EQ(cost.trained, c.cost.trained);
    EXPECT_EQ(cost.kept, c.cost.kept);
    EXPECT_EQ(cost.rank, c.cost.rank);
  }
}

TEST(Cost, FollowsStateHeadAndCohort) {
  const SmallProblem problem(two_sites());
  Options options = small_options();
  options.clients = 5;
  const auto cost = [&](const std::string& name) {
    const auto algorithm = make_method(name, options, problem);
    return algorithm->cost(start_group(*algorithm, problem, {0, 1}), 0, 1);
  };
  options.clients_per_round = 2;
  EXPECT_EQ(cost("flora").received, 2 * 168 + 52);
  options.clients_per_round = 0;
  options.held_out_clients = 1;
  EXPECT_EQ(cost("flora").received, 4 * 168 + 52);
  options.optimizer_state = "average";
  EXPECT_EQ(cost("homlora").sent, 220 + 441);
  EXPECT_EQ(cost("homlora").kept, 0);
  // Client 0 has rank 2 of 3, the rank itself and nothing else.
  EXPECT_EQ(cost("hetlora").sent, 164 + 2 * 164 + 1);
  EXPECT_EQ(cost("hetlora").kept, 1);
  options.optimizer_state = "reset";
  EXPECT_EQ(cost("homlora").sent, 220);
  EXPECT_EQ(cost("homlora").kept, 0);
  EXPECT_EQ(cost("ditto").kept, 220 + 1);
  options.head = "personal";
  EXPECT_EQ(cost("homlora").sent, 168);
  EXPECT_EQ(cost("homlora").trained, 220);
  EXPECT_EQ(cost("homlora").kept, 52);
  EXPECT_EQ(cost("hetlora").sent, 48 + 64);
  EXPECT_EQ(cost("hetlora").trained, 48 + 64 + 52);
  EXPECT_EQ(cost("flora").received, 4 * 168);
}

}  // namespace
}  // namespace pf2lora
