// FFA-LoRA and RoLoRA: one half of the pair is trained, always or in turn, and the other half rests.
#include <gtest/gtest.h>

#include "algorithm/methods.h"

namespace pf2lora {
namespace {

using torch::Tensor;

Options decaying(const std::string& state = "keep", const std::string& head = "common") {
  Options options = small_options();
  options.weight_decay = 0.1;
  options.optimizer_state = state;
  options.head = head;
  return options;
}

Tensor block_of(const Tensor& rows, Block block) {
  return rows.narrow(1, block.offset, block.size);
}

TEST(FfaLora, NeverChangesABitOfA) {
  const SmallProblem problem(two_sites());
  for (const std::string state : {"keep", "average", "reset"})
    for (const std::string head : {"common", "personal"}) {
      const auto algorithm = make_method("ffa-lora", decaying(state, head), problem);
      auto groups = two_groups(*algorithm, problem);
      const Level& level = *algorithm->common_level(groups[0]).level;
      const Tensor start = algorithm->common_level(groups[0]).rows.clone();
      for (int64_t round = 1; round <= 2; ++round) play_round(*algorithm, groups, round, 3);
      algorithm->local_steps(groups[0], {.round = 3, .steps = 2});
      const Tensor now = algorithm->common_level(groups[0]).rows;
      EXPECT_TRUE(torch::equal(block_of(now, level.down_block()), block_of(start, level.down_block())))
          << state << ", head " << head;
      EXPECT_GT(block_of(now, level.up_block()).abs().max().item<double>(), 1e-3);
      // The same A at every client and round is what makes A the start value of everyone.
      EXPECT_GT(block_of(start, level.down_block()).abs().min().item<double>(), 0);
    }
}

// B and the head by torch's AdamW along their part of the gradient; A has neither gradient nor moments.
TEST(FfaLora, TrainsBAndTheHead) {
  const SmallProblem problem(two_sites());
  const Options options = decaying();
  const PlainLevel plain(options, problem);
  const auto algorithm = make_method("ffa-lora", options, problem);
  ClientGroup group = start_group(*algorithm, problem, {2});
  const Tensor start = algorithm->common_level(group).rows.clone();
  const int64_t a = plain.level().down_block().size, rest = plain.level().size() - a;
  TorchAdamW expected(start[0].narrow(0, a, rest), options);
  for (int64_t round = 1; round <= 2; ++round)
    for (int64_t step = 0; step < 3; ++step) {
      const Tensor rows = torch::cat({start[0].narrow(0, 0, a), expected.row()}).unsqueeze(0);
      expected.step(
          plain.gradient(problem.training_batch({2}, Purpose::batch, round, step, 0), rows)[0].narrow(0, a,
                                                                                                      rest));
    }
  std::vector<ClientGroup> groups = {group};
  for (int64_t round = 1; round <= 2; ++round) play_round(*algorithm, groups, round, 3);
  EXPECT_LT(largest_difference(algorithm->common_level(groups[0]).rows[0].narrow(0, a, rest), expected.row()),
            1e-11);
  EXPECT_EQ(part(algorithm->client_layout(), groups[0].own, "optimizer/AB/1/moment1").size(1), rest);
}

// The reason for freezing A: the average of the products is the product of the averages.
TEST(FfaLora, AveragesProductsExactly) {
  const SmallProblem problem(two_sites());
  const auto algorithm = make_method("ffa-lora", decaying(), problem);
  auto groups = two_groups(*algorithm, problem);
  const Tensor before = groups[0].common[0].clone();
  for (ClientGroup& group : groups) algorithm->local_steps(group, {.steps = 4});
  const Level& level = *algorithm->common_level(groups[0]).level;
  const Tensor rows = common_rows(*algorithm, groups);
  const AdapterSet common = *algorithm->common_model(aggregated(*algorithm, groups, before, 1).unsqueeze(0));
  for (size_t s = 0; s < 2; ++s) {
    const Tensor mean = dense_product(level, rows, level.sites()[s]).mean(0);
    EXPECT_LT(largest_difference(common.pairs[s].up[0].matmul(common.pairs[s].down[0]), mean), 1e-15);
    EXPECT_GT(mean.norm().item<double>(), 1e-3);
  }
}

// Moments of one half (0: A, 1: B) wherever --optimizer-state keeps them.
Tensor moments_of(const Algorithm& algorithm, const ClientGroup& group, int64_t half, bool averaged) {
  const ParameterLayout& layout = averaged ? algorithm.common_layout() : algorithm.client_layout();
  std::vector<Tensor> parts;
  for (const std::string name : {"moment1", "moment2", "steps"})
    parts.push_back(part(layout, averaged ? group.common : group.own,
                         "optimizer/AB/" + std::to_string(half) + "/" + name));
  return torch::cat(parts, 1).clone();
}

TEST(RoLora, LetsOneHalfRestWithItsMomentsAndDecay) {
  const SmallProblem problem(two_sites());
  for (const std::string state : {"keep", "average"})
    for (const std::string head : {"common", "personal"}) {
      const bool averaged = state == "average";
      const auto algorithm = make_method("rolora", decaying(state, head), problem);
      auto groups = two_groups(*algorithm, problem);
      const Level& level = *algorithm->common_level(groups[0]).level;
      for (int64_t round = 1; round <= 4; ++round) {
        const int64_t moving = round % 2 == 1 ? 1 : 0, resting = 1 - moving;
        const std::array blocks = {level.down_block(), level.up_block()};
        const Tensor rows = algorithm->common_level(groups[0]).rows.clone();
        const Tensor rest = moments_of(*algorithm, groups[0], resting, averaged),
                     other = moments_of(*algorithm, groups[0], moving, averaged);
        if (round == 1) {
          EXPECT_EQ(rest.abs().max().item<double>(), 0);
        }
        const auto check = [&](const std::string& when) {
          const Tensor now = algorithm->common_level(groups[0]).rows;
          EXPECT_TRUE(
              torch::equal(block_of(now, blocks[size_t(resting)]), block_of(rows, blocks[size_t(resting)])))
              << when << " round " << round << ", " << state;
          EXPECT_TRUE(torch::equal(moments_of(*algorithm, groups[0], resting, averaged), rest))
              << when << " round " << round << ", " << state;
          EXPECT_GT(largest_difference(block_of(now, blocks[size_t(moving)]),
                                       block_of(rows, blocks[size_t(moving)])),
                    1e-3);
          EXPECT_GT(largest_difference(moments_of(*algorithm, groups[0], moving, averaged), other), 1e-3);
        };
        const Tensor before = groups[0].common[0].clone();
        for (ClientGroup& group : groups) algorithm->local_steps(group, {.round = round, .steps = 3});
        check("local steps of");
        const Tensor common = aggregated(*algorithm, groups, before, round);
        for (ClientGroup& group : groups) group.common.copy_(common.expand_as(group.common));
        check("average of");
      }
    }
}

TEST(RoLora, SendsBInOddRoundsAndAInEvenOnes) {
  const SmallProblem problem(two_sites());
  const auto algorithm = make_method("rolora", decaying(), problem);
  const Level level(problem.model().sites(), 3, 1, {"A", "B"}, problem.model().head());
  for (int64_t round = 1; round <= 4; ++round) {
    const Block half = round % 2 == 1 ? level.up_block() : level.down_block(), head = level.head_block();
    const auto blocks = algorithm->sent_blocks(round);
    ASSERT_EQ(blocks.size(), 2u);
    EXPECT_EQ(blocks[0].offset, half.offset);
    EXPECT_EQ(blocks[0].size, half.size);
    EXPECT_EQ(blocks[1].offset, head.offset);
    EXPECT_EQ(blocks[1].size, head.size);
    EXPECT_EQ(algorithm->sum_size(round), half.size + head.size + 1);
  }
}

// Three optimisers of torch, of which that of B steps in odd rounds, that of A in even ones and that of the
// head in all.
TEST(RoLora, IsTorchsAdamWOnAHalfInTurn) {
  const SmallProblem problem(two_sites());
  const Options options = decaying();
  const PlainLevel plain(options, problem);
  const auto algorithm = make_method("rolora", options, problem);
  std::vector<ClientGroup> groups = {start_group(*algorithm, problem, {2})};
  const std::array blocks = {plain.level().down_block(), plain.level().up_block(),
                             plain.level().head_block()};
  std::vector<TorchAdamW> parts;
  for (const Block& block : blocks)
    parts.emplace_back(block_of(algorithm->common_level(groups[0]).rows, block)[0], options);
  for (int64_t round = 1; round <= 4; ++round) {
    for (int64_t step = 0; step < 2; ++step) {
      const Tensor rows = torch::cat({parts[0].row(), parts[1].row(), parts[2].row()}).unsqueeze(0);
      const Tensor gradient =
          plain.gradient(problem.training_batch({2}, Purpose::batch, round, step, 0), rows);
      for (const size_t i : {size_t(round % 2), size_t(2)}) parts[i].step(block_of(gradient, blocks[i])[0]);
    }
    play_round(*algorithm, groups, round, 2);
    EXPECT_LT(largest_difference(algorithm->common_level(groups[0]).rows[0],
                                 torch::cat({parts[0].row(), parts[1].row(), parts[2].row()})),
              1e-10)
        << round;
  }
}

}  // namespace
}  // namespace pf2lora
