// Twenty AdamW steps of one client on the pretrained MiniLM, against the losses of PyTorch with PEFT
// (tests/golden/make_bert_golden.py).
#include <gtest/gtest.h>

#include <iostream>

#include "algorithm/row_optimizer.h"
#include "model/golden.h"
#include "model/small_transformer.h"

namespace pf2lora {
namespace {

class TrainingOfMiniLm : public testing::TestWithParam<std::string> {};

TEST_P(TrainingOfMiniLm, FollowsTheLossesOfPyTorchAndPeft) {
  const Golden golden("minilm");
  const std::string directory = golden.file().attribute<std::string>("/", "model");
  const ModelConfig config = read_model_config(directory);
  const auto made =
      any_transformer(GetParam() == "native", read_transformer_weights(directory, config, {}, torch::kFloat32),
                  transformer_sites(config, {"query", "value"}, {0, 1, 2, 3, 4, 5}),
                      {.classes = int64_t(golden.file().shape("head/weight")[0])});
  const Model& model = *made;
  const Level level = golden.level(model.sites());
  const RowOptimizer optimizer(Rule::adamw, level.size(), 0);
  torch::Tensor rows = golden.row(level, "training/").unsqueeze(0);
  const torch::Tensor state = torch::zeros({1, optimizer.state_layout().size()});
  const double rate = golden.file().attribute<double>("training", "learning_rate");
  const std::vector<double> expected = golden.file().read<double>("training/loss");
  const Shape shape = golden.file().shape("training/rows");
  const std::vector<int64_t> drawn = golden.file().read<int64_t>("training/rows");
  ASSERT_EQ(expected.size(), 20u);

  const std::array levels = {&level};
  double worst = 0;
  for (size_t step = 0; step < expected.size(); ++step) {
    const auto begin = drawn.begin() + int64_t(step) * shape[1];
    const std::array current = {rows};
    const Gradient gradient = model.gradient(golden.batch({0}, {{begin, begin + shape[1]}}),
                                             compose(levels, current), Keep::nothing);
    optimizer.step(rows, split(levels, gradient.rows)[0], state, rate);
    const double loss = gradient.loss[0].item<double>();
    EXPECT_NEAR(loss, expected[step], 1e-3) << "step " << step;
    worst = std::max(worst, std::abs(loss - expected[step]));
  }
  EXPECT_LT(expected.back(), expected.front() - 0.5);  // it learned something
  std::cout << "losses differ by at most " << worst << "\n";
}

INSTANTIATE_TEST_SUITE_P(Backends, TrainingOfMiniLm, testing::Values("reference", "native"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pf2lora
