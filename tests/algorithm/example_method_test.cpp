// The method that README.md shows how to add: what its lines claim, with HOMLoRA as the measure.
#include <gtest/gtest.h>

#include "algorithm/methods.h"

namespace pf2lora {

AlgorithmRow fedavgm();

namespace {

using torch::Tensor;

std::unique_ptr<Algorithm> make_example(const Options& options, const Problem& problem, double momentum) {
  const AlgorithmRow row = fedavgm();
  const auto own = row.make_options();
  const auto entries = list_options(*own);
  EXPECT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries.at(0).name, "server-momentum");
  assign_value(entries.at(0), std::to_string(momentum));
  return row.make(options, own.get(), problem);
}

// The common parameters after each of three rounds.
std::vector<Tensor> three_rounds(const Algorithm& algorithm, const Problem& problem) {
  auto groups = two_groups(algorithm, problem);
  std::vector<Tensor> after;
  for (int64_t round = 1; round <= 3; ++round) {
    play_round(algorithm, groups, round, 2);
    after.push_back(common_rows(algorithm, groups)[0].clone());
  }
  return after;
}

TEST(ExampleMethod, WithoutMomentumIsHomLora) {
  const SmallProblem problem;
  const Options options = sgd_options();
  const auto wanted = three_rounds(*make_method("homlora", options, problem), problem);
  const auto found = three_rounds(*make_example(options, problem, 0), problem);
  for (size_t round = 0; round < 3; ++round)
    EXPECT_LT(largest_difference(found[round], wanted[round]), 1e-14) << round;
}

// From the same parameters a round of HOMLoRA goes to the average, and this one beta times the last move
// beyond.
TEST(ExampleMethod, GoesBeyondTheAverageByTheLastMove) {
  const SmallProblem problem;
  const Options options = sgd_options();
  const auto example = make_example(options, problem, 0.5), plain = make_method("homlora", options, problem);
  auto groups = two_groups(*example, problem), others = two_groups(*plain, problem);
  Tensor last_move = torch::zeros_like(common_rows(*plain, others)[0]);
  for (int64_t round = 1; round <= 3; ++round) {
    const Tensor before = common_rows(*example, groups)[0].clone();
    for (ClientGroup& group : others)
      plain->common_level(group).rows.copy_(before.expand_as(plain->common_level(group).rows));
    play_round(*plain, others, round, 2);
    play_round(*example, groups, round, 2);
    const Tensor found = common_rows(*example, groups)[0];
    EXPECT_LT(largest_difference(found, common_rows(*plain, others)[0] + 0.5 * last_move), 1e-14) << round;
    last_move = found - before;
  }
  EXPECT_GT(last_move.abs().max().item<double>(), 1e-3);
}

// The momentum is a slice of the common row: nothing else has to be done for checkpoints, and nothing is
// sent.
TEST(ExampleMethod, KeepsItsMomentumInTheCommonRow) {
  const SmallProblem problem;
  const auto example = make_example(sgd_options(), problem, 0.5);
  const auto plain = make_method("homlora", sgd_options(), problem);
  const Slice& momentum = example->common_layout().find("momentum");
  EXPECT_EQ(example->common_layout().size(), plain->common_layout().size() + momentum.size);
  EXPECT_EQ(example->sum_size(1), plain->sum_size(1));
  auto groups = two_groups(*example, problem);
  const Tensor before = common_rows(*example, groups)[0].clone();
  play_round(*example, groups, 1, 2);
  const Tensor move = common_rows(*example, groups)[0] - before;
  EXPECT_LT(largest_difference(part(example->common_layout(), groups[0].common, "momentum")[1], move), 1e-15);
}

}  // namespace
}  // namespace pf2lora
