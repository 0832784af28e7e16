// Ditto, FedPer, FedRep and FedSA-LoRA: what is each client's own beside what is averaged.
#include <gtest/gtest.h>

#include <set>

#include "algorithm/methods.h"

namespace pf2lora {
namespace {

using torch::Tensor;

Tensor client_rows(const Algorithm& algorithm, const ClientGroup& group) {
  return algorithm.client_level(group).rows;
}

// v <- v - a (grad f(v) + lambda (v - w)) with w as received, while the client's copy of w moves on.
TEST(Ditto, HoldsThePersonalPairNearTheCommonOneThatWasReceived) {
  const SmallProblem problem(two_sites());
  const Options options = sgd_options();
  const PlainLevel plain(options, problem);
  constexpr double kPenalty = 0.7;
  const auto algorithm = make_method("ditto", options, problem, {{"ditto-penalty", "0.7"}});
  ClientGroup group = random_group(*algorithm, problem, {1, 4});
  const Tensor received = algorithm->common_level(group).rows.clone();
  Tensor w = received, v = client_rows(*algorithm, group).clone();
  ASSERT_GT(largest_difference(w, v), 0.1);
  Tensor losses = torch::zeros({2}, torch::kFloat64);
  for (int64_t step = 0; step < 4; ++step) {
    const Batch batch = problem.training_batch({1, 4}, Purpose::batch, 2, step, 0);
    losses += plain.loss(batch, v) / 4;
    w = w - options.learning_rate * plain.gradient(batch, w);
    v = v - options.learning_rate * (plain.gradient(batch, v) + kPenalty * (v - received));
  }
  const LocalReport report = algorithm->local_steps(group, {.round = 2, .steps = 4});
  EXPECT_LT(largest_difference(algorithm->common_level(group).rows, w), 1e-13);
  EXPECT_LT(largest_difference(client_rows(*algorithm, group), v), 1e-13);
  EXPECT_EQ(report.gradient_evaluations, 8);
  for (int64_t g = 0; g < 2; ++g) EXPECT_NEAR(report.loss[size_t(g)], losses[g].item<double>(), 1e-13);
  // The client deploys its own pair alone.
  EXPECT_EQ(algorithm->combination(), Combination::replaces);
  const Batch batch = problem.training_batch({1, 4}, Purpose::batch, 3, 0, 0);
  EXPECT_LT(largest_difference(client_losses(problem, batch, algorithm->personal_model(group)),
                               plain.loss(batch, v)),
            1e-13);
  EXPECT_LT(largest_difference(client_losses(problem, batch, *algorithm->common_model(group.common)),
                               plain.loss(batch, w)),
            1e-13);
}

TEST(Ditto, WithoutPenaltyIsLocalOnlyBesideHomLora) {
  const SmallProblem problem(two_sites());
  for (const std::string state : {"keep", "average", "reset"}) {
    Options options = small_options();
    options.optimizer_state = state;
    options.weight_decay = 0.1;
    options.clip = 0.5;
    const auto ditto = make_method("ditto", options, problem, {{"ditto-penalty", "0"}});
    const auto hom = make_method("homlora", options, problem), local = make_method("local", options, problem);
    auto a = two_groups(*ditto, problem), b = two_groups(*hom, problem), c = two_groups(*local, problem);
    for (int64_t round = 1; round <= 2; ++round) {
      play_round(*ditto, a, round, 3);
      play_round(*hom, b, round, 3);
      for (ClientGroup& group : c) local->local_steps(group, {.round = round, .steps = 3});
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_TRUE(torch::equal(ditto->common_level(a[i]).rows, hom->common_level(b[i]).rows)) << state;
        EXPECT_TRUE(torch::equal(client_rows(*ditto, a[i]), client_rows(*local, c[i]))) << state;
      }
    }
    EXPECT_GT(largest_difference(ditto->common_level(a[0]).rows, client_rows(*ditto, a[0])), 1e-3);
  }
}

// The common row is what the personal one is held to, and stays.
TEST(Ditto, AdaptsThePersonalPairAlone) {
  const SmallProblem problem(two_sites());
  const auto algorithm = make_method("ditto", sgd_options(), problem, {{"ditto-penalty", "0.7"}});
  ClientGroup group = random_group(*algorithm, problem, {1, 4});
  const Tensor common = group.common.clone(), own = group.own.clone();
  const LocalReport report = algorithm->adapt(group, {Purpose::adaptation, 2, 0, 5});
  EXPECT_EQ(report.gradient_evaluations, 5);
  EXPECT_TRUE(torch::equal(group.common, common));
  EXPECT_GT(largest_difference(group.own, own), 1e-3);
}

TEST(FedPer, IsHomLoraWithAPersonalHead) {
  const SmallProblem problem(two_sites());
  Options options = small_options();
  const auto fedper = make_method("fedper", options, problem);
  options.head = "personal";
  const auto hom = make_method("homlora", options, problem);
  auto a = two_groups(*fedper, problem), b = two_groups(*hom, problem);
  for (int64_t round = 1; round <= 2; ++round) {
    play_round(*fedper, a, round, 3);
    play_round(*hom, b, round, 3);
  }
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(torch::equal(a[i].common, b[i].common));
    EXPECT_TRUE(torch::equal(a[i].own, b[i].own));
  }
  EXPECT_GT(largest_difference(fedper->personal_model(a[0]).head_weight[0],
                               fedper->personal_model(a[0]).head_weight[1]),
            1e-3);
}

// Head steps on the batches of slot 1 with the adapters fixed, then adapter steps on those of slot 0 with the
// head fixed.
TEST(FedRep, MovesFirstTheHeadAndThenTheAdapters) {
  const SmallProblem problem(two_sites());
  const Options options = sgd_options();
  const PlainLevel plain(options, problem);
  const Block head = plain.level().head_block();
  const auto rows = [](const Algorithm& algorithm, const ClientGroup& group) {
    return torch::cat({algorithm.common_level(group).rows, client_rows(algorithm, group)}, 1);
  };
  for (const int64_t head_steps : {0, 3}) {
    const auto algorithm =
        make_method("fedrep", options, problem, {{"head-steps", std::to_string(head_steps)}});
    ClientGroup group = random_group(*algorithm, problem, {2, 4});
    Tensor expected = rows(*algorithm, group);
    for (int64_t step = 0; step < head_steps; ++step) {
      const Batch batch = problem.training_batch({2, 4}, Purpose::batch, 2, step, 1);
      const Tensor gradient = plain.gradient(batch, expected).clone();
      gradient.narrow(1, 0, head.offset).zero_();
      expected = expected - options.learning_rate * gradient;
    }
    const Tensor after_head = expected;
    Tensor losses = torch::zeros({2}, torch::kFloat64);
    for (int64_t step = 0; step < 4; ++step) {
      const Batch batch = problem.training_batch({2, 4}, Purpose::batch, 2, step, 0);
      losses += plain.loss(batch, expected) / 4;
      const Tensor gradient = plain.gradient(batch, expected).clone();
      gradient.narrow(1, head.offset, head.size).zero_();
      expected = expected - options.learning_rate * gradient;
    }
    ClientGroup head_only{group.clients, group.common.clone(), group.own.clone()};
    algorithm->local_steps(head_only, {.round = 2, .steps = 0});
    EXPECT_TRUE(torch::equal(head_only.common, group.common)) << head_steps;
    EXPECT_EQ(torch::equal(head_only.own, group.own), head_steps == 0);
    EXPECT_LT(largest_difference(rows(*algorithm, head_only), after_head), 1e-13) << head_steps;

    const LocalReport report = algorithm->local_steps(group, {.round = 2, .steps = 4});
    EXPECT_LT(largest_difference(rows(*algorithm, group), expected), 1e-13) << head_steps;
    EXPECT_TRUE(torch::equal(group.own, head_only.own)) << head_steps;
    EXPECT_EQ(report.gradient_evaluations, 4 + head_steps);
    for (int64_t g = 0; g < 2; ++g) EXPECT_NEAR(report.loss[size_t(g)], losses[g].item<double>(), 1e-13);
  }
}

// A slice of the common row is sent where it lies inside a block.
std::set<std::string> sent_slices(const Algorithm& algorithm, int64_t round) {
  std::set<std::string> names;
  for (const Block& block : algorithm.sent_blocks(round))
    for (const Slice& slice : algorithm.common_layout().slices())
      if (slice.offset >= block.offset && slice.offset + slice.size <= block.offset + block.size)
        names.insert(slice.name);
  return names;
}

TEST(FedSa, SendsAAndTheCommonHeadAndNeverB) {
  const SmallProblem problem(two_sites());
  const std::string first = problem.model().sites()[0].name, second = problem.model().sites()[1].name;
  Options options = small_options();
  const auto sent = [&](const std::string& head, const std::string& state) {
    options.head = head;
    options.optimizer_state = state;
    const auto algorithm = make_method("fedsa-lora", options, problem);
    for (const std::string& site : {first, second}) {
      EXPECT_FALSE(has_slice(algorithm->common_layout(), site + "/B"));
      EXPECT_TRUE(has_slice(algorithm->client_layout(), site + "/B"));
    }
    int64_t size = 0;
    for (const Block& block : algorithm->sent_blocks(1)) size += block.size;
    EXPECT_EQ(algorithm->sum_size(1), size + 1);
    return sent_slices(*algorithm, 1);
  };
  using Names = std::set<std::string>;
  EXPECT_EQ(sent("common", "keep"), (Names{first + "/A", second + "/A", "head/weight", "head/bias"}));
  EXPECT_EQ(sent("personal", "keep"), (Names{first + "/A", second + "/A"}));
  EXPECT_EQ(sent("personal", "average"), (Names{first + "/A", second + "/A", "optimizer/AB/0/moment1",
                                                "optimizer/AB/0/moment2", "optimizer/AB/0/steps"}));
}

// The first local steps are HOMLoRA's; afterwards A is the mean and every B its client's.
TEST(FedSa, TrainsBothHalvesAndAveragesA) {
  const SmallProblem problem(two_sites());
  for (const std::string head : {"common", "personal"}) {
    Options options = small_options();
    options.head = head;
    options.weight_decay = 0.1;
    options.clip = 0.5;
    const auto algorithm = make_method("fedsa-lora", options, problem);
    Options plain_options = options;
    plain_options.head = "common";  // before the first average it does not matter whose the head is
    const auto hom = make_method("homlora", plain_options, problem);
    auto groups = two_groups(*algorithm, problem), others = two_groups(*hom, problem);
    const Tensor before = groups[0].common[0].clone();
    std::vector<Tensor> trained;
    for (size_t i = 0; i < 2; ++i) {
      algorithm->local_steps(groups[i], {.steps = 4});
      hom->local_steps(others[i], {.steps = 4});
      trained.push_back(client_rows(*algorithm, groups[i]).clone());
      EXPECT_LT(largest_difference(trained[i], hom->common_level(others[i]).rows), 1e-12) << head;
    }
    const Tensor common = aggregated(*algorithm, groups, before, 1), rows = torch::cat(trained);
    const Level& level = *algorithm->client_level(groups[0]).level;
    for (size_t i = 0; i < 2; ++i) {
      groups[i].common.copy_(common.expand_as(groups[i].common));
      const AdapterSet deployed = algorithm->personal_model(groups[i]);
      for (size_t s = 0; s < 2; ++s) {
        const std::string site = level.sites()[s].name;
        const Tensor a = part(level.layout(), rows, site + "/A").mean(0);
        const Tensor b = part(level.layout(), trained[i], site + "/B");
        EXPECT_LT(largest_difference(deployed.pairs[s].up.matmul(deployed.pairs[s].down),
                                     level.scale() * b.matmul(a)),
                  1e-14);
      }
      const Tensor heads = part(level.layout(), trained[i], "head/weight");
      const Tensor mean = part(level.layout(), rows, "head/weight").mean(0).expand_as(heads);
      EXPECT_LT(largest_difference(deployed.head_weight, head == "common" ? mean : heads), 1e-15);
      EXPECT_GT(largest_difference(mean, heads), 1e-3);
    }
    EXPECT_TRUE(algorithm->is_personal());
    EXPECT_FALSE(algorithm->common_model(groups[0].common).has_value());
  }
}

}  // namespace
}  // namespace pf2lora
