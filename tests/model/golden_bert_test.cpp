// The encoder against transformers and PEFT: logits and gradients of tests/golden/make_bert_golden.py, which
// ran padded batches through their modules.
#include <gtest/gtest.h>

#include <iostream>

#include "model/golden_comparison.h"

namespace pf2lora {
namespace {

class PretrainedMiniLm : public testing::TestWithParam<std::string> {};

// 100 definitions of 4 to 58 tokens; transformers in batches of 16 with padding, here 20 packed, and 4
// clients with 5 each in one group.
TEST_P(PretrainedMiniLm, InFloatAgreesWithTransformersAndPeft) {
  const Golden golden("minilm");
  const std::string logits = "logits/adapted/" + GetParam(), at_adapted = "gradient/" + GetParam();
  for (const bool native : {false, true}) {
    const Comparison comparison(golden, {.directory = golden.file().attribute<std::string>("/", "model"),
                                         .targets = {"query", "value"},
                                         .readout = {.pooling = kPoolings.at(GetParam())},
                                         .type = torch::kFloat32,
                                         .native = native});
    const double frozen = comparison.logit_difference("frozen", "logits/frozen/" + GetParam(), 1, 20);
    const double adapted = comparison.logit_difference("adapted", logits, 1, 20);
    const double group = comparison.logit_difference("adapted", logits, 4, 5);
    const double gradient = comparison.gradient_error("adapted", at_adapted, 1),
                 in_group = comparison.gradient_error("adapted", at_adapted, 3);
    EXPECT_LT(frozen, 2e-5);
    EXPECT_LT(adapted, 2e-5);
    EXPECT_LT(group, 2e-5);
    EXPECT_LT(gradient, 1e-4);
    EXPECT_LT(in_group, 1e-4);
    std::cout << (native ? "native, " : "reference, ") << GetParam() << ": logits differ by " << frozen
              << " frozen, " << adapted << " adapted, " << group << " in a group; gradients by " << gradient
              << ", " << in_group << "\n";
  }
}

INSTANTIATE_TEST_SUITE_P(Poolings, PretrainedMiniLm, testing::Values("cls", "mean"),
                         [](const auto& info) { return info.param; });

class SmallBert : public testing::TestWithParam<std::string> {};

// Random weights, two layers, all six targets; gelu_new was saved with a head, so with the prefix `bert.`.
// The prompted model has a prompt and a prefix in every layer beside the pairs.
TEST_P(SmallBert, InDoubleAgreesWithTransformersAndPeft) {
  const Golden golden("small_" + GetParam());
  for (const bool native : {false, true})
    for (const std::string pooling : {"cls", "mean", "pooler"}) {
      SCOPED_TRACE((native ? "native " : "reference ") + pooling);
      const Comparison comparison(golden, {.directory = golden_directory() + "/small_" + GetParam(),
                                           .targets = kAllTargets,
                                           .readout = {.pooling = kPoolings.at(pooling)},
                                           .native = native});
      EXPECT_LT(comparison.logit_difference("frozen", "logits/frozen/" + pooling, 1, 7), 1e-12);
      const auto kinds =
          native ? std::vector<std::string>{"adapted"} : std::vector<std::string>{"adapted", "prompted"};
      for (const std::string& kind : kinds) {
        const std::string logits = "logits/" + kind + "/" + pooling,
                          gradient = (kind == "adapted" ? "gradient/" : "prompted_gradient/") + pooling;
        EXPECT_LT(comparison.logit_difference(kind, logits, 1, 24), 1e-12) << kind;
        EXPECT_LT(comparison.logit_difference(kind, logits, 3, 4), 1e-12) << kind;
        EXPECT_LT(comparison.gradient_error(kind, gradient, 1), 1e-9) << kind;
        EXPECT_LT(comparison.gradient_error(kind, gradient, 3), 1e-9) << kind;
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Activations, SmallBert, testing::Values("gelu", "gelu_new", "relu"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pf2lora
