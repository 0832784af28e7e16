// The encoder against transformers and PEFT: logits and gradients of tests/golden/make_bert_golden.py, which
// ran padded batches through their modules.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <numeric>

#include "adapters/random_tensors.h"
#include "model/golden.h"
#include "model/small_transformer.h"

namespace pf2lora {
namespace {

using torch::Tensor;

const std::map<std::string, Pooling> kPoolings = {
    {"cls", Pooling::cls}, {"mean", Pooling::mean}, {"pooler", Pooling::pooler}};

class Comparison {
 public:
  Comparison(bool native, const Golden& golden, const std::string& directory,
             const std::vector<std::string>& targets, const std::string& pooling, torch::ScalarType type)
      : golden_(golden),
        pooling_(pooling),
        config_(read_model_config(directory)),
        owned_(any_transformer(native,
                           read_transformer_weights(directory, config_, {.pooler = pooling == "pooler"},
                                                    torch::dtype(type)),
                           transformer_sites(config_, targets, all_layers()),
                               {.pooling = kPoolings.at(pooling),
                                .classes = int64_t(golden.file().shape("head/weight")[0])})),
        model_(*owned_),
        level_(golden.level(model_.sites())),
        prompt_({}, 0, 1, {"", ""}, std::nullopt, prompts_of(golden, "prompt", 0)),
        prefix_({}, 0, 1, {"", ""}, std::nullopt, prompts_of(golden, "prefix/0/key", config_.layers)) {}

  // The largest difference of a logit over all examples, packed `examples` to a client and `clients` to a
  // group.
  double logit_difference(const std::string& kind, int64_t clients, int64_t examples) const {
    const Tensor expected = golden_.tensor("logits/" + kind + "/" + pooling_);
    std::vector<Tensor> logits;
    for (int64_t next = 0; next < golden_.size();) {
      std::vector<std::vector<int64_t>> rows;
      std::vector<int64_t> numbers;
      while (int64_t(rows.size()) < clients && next < golden_.size()) {
        numbers.push_back(int64_t(rows.size()));
        rows.emplace_back(size_t(std::min(examples, golden_.size() - next)));
        std::iota(rows.back().begin(), rows.back().end(), next);
        next += int64_t(rows.back().size());
      }
      logits.push_back(
          model_.output(golden_.batch(numbers, rows), adapters(int64_t(rows.size()), kind), Keep::nothing)
              .values);
    }
    const Tensor found = torch::cat(logits);
    EXPECT_EQ(found.sizes(), expected.sizes());
    return largest_difference(found, expected);
  }

  // The largest relative error of a slice of the gradient of gradient/rows, alone or as one of three clients,
  // at the adapted or the prompted model.
  double gradient_error(int64_t clients, const std::string& kind = "adapted") const {
    const std::vector<int64_t> rows = golden_.file().read<int64_t>("gradient/rows");
    std::vector<std::vector<int64_t>> by_client(size_t(clients), std::vector<int64_t>{3, 1, 2});
    by_client.back() = rows;
    std::vector<int64_t> numbers(size_t(clients), 0);
    const Gradient gradient =
        model_.gradient(golden_.batch(numbers, by_client), adapters(clients, kind), Keep::nothing);
    const std::string name = (kind == "adapted" ? "gradient/" : "prompted_gradient/") + pooling_;
    EXPECT_NEAR(gradient.loss[clients - 1].item<double>(), golden_.file().attribute<double>(name, "loss"),
                1e-5);

    const std::vector<const Level*> levels = levels_of(kind);
    const std::vector<Tensor> found = split(levels, gradient.rows);
    double worst = 0;
    for (size_t i = 0; i < levels.size(); ++i) {
      const Tensor row = found[i].narrow(0, clients - 1, 1);
      const Tensor expected = golden_.row(*levels[i], name + "/").unsqueeze(0);
      for (const Slice& slice : levels[i]->layout().slices())
        worst = std::max(worst, relative_error(view(row, slice), view(expected, slice)));
    }
    return worst;
  }

 private:
  std::vector<int64_t> all_layers() const {
    std::vector<int64_t> layers(size_t(config_.layers));
    std::iota(layers.begin(), layers.end(), 0);
    return layers;
  }
  // The shape of a prompt of the file; nullopt where it holds none.
  static std::optional<PromptShape> prompts_of(const Golden& golden, const std::string& name,
                                               int64_t layers) {
    if (!golden.file().exists("adapters/" + name)) return std::nullopt;
    const Shape shape = golden.file().shape("adapters/" + name);
    return PromptShape{shape[0], shape[1], layers};
  }
  std::vector<const Level*> levels_of(const std::string& kind) const {
    return kind == "prompted" ? std::vector{&level_, &prompt_, &prefix_} : std::vector{&level_};
  }
  AdapterSet adapters(int64_t clients, const std::string& kind) const {
    const std::vector<const Level*> levels = levels_of(kind);
    std::vector<Tensor> rows;
    for (const Level* level : levels) rows.push_back(golden_.row(*level).repeat({clients, 1}));
    AdapterSet set = compose(levels, rows);
    if (kind == "frozen")
      for (LowRankPair& pair : set.pairs) pair = {};
    return set;
  }

  const Golden& golden_;
  std::string pooling_;
  ModelConfig config_;
  std::unique_ptr<Model> owned_;
  const Model& model_;
  Level level_, prompt_, prefix_;
};

class PretrainedMiniLm : public testing::TestWithParam<std::string> {};

// 200 definitions of 4 to 58 tokens; transformers in batches of 16 with padding, here 20 packed, and 4
// clients with 5 each in one group.
TEST_P(PretrainedMiniLm, InFloatAgreesWithTransformersAndPeft) {
  const Golden golden("minilm");
  for (const bool native : {false, true}) {
    const Comparison comparison(native, golden, golden.file().attribute<std::string>("/", "model"),
                                {"query", "value"}, GetParam(), torch::kFloat32);
    const double frozen = comparison.logit_difference("frozen", 1, 20);
    const double adapted = comparison.logit_difference("adapted", 1, 20);
    const double group = comparison.logit_difference("adapted", 4, 5);
    const double gradient = comparison.gradient_error(1), in_group = comparison.gradient_error(3);
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
      const Comparison comparison(native, golden, golden_directory() + "/small_" + GetParam(), kAllTargets,
                                  pooling, torch::kFloat64);
      EXPECT_LT(comparison.logit_difference("frozen", 1, 7), 1e-12);
      const auto kinds =
          native ? std::vector<std::string>{"adapted"} : std::vector<std::string>{"adapted", "prompted"};
      for (const std::string& kind : kinds) {
        EXPECT_LT(comparison.logit_difference(kind, 1, 24), 1e-12) << kind;
        EXPECT_LT(comparison.logit_difference(kind, 3, 4), 1e-12) << kind;
        EXPECT_LT(comparison.gradient_error(1, kind), 1e-9) << kind;
        EXPECT_LT(comparison.gradient_error(3, kind), 1e-9) << kind;
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Activations, SmallBert, testing::Values("gelu", "gelu_new", "relu"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pf2lora
