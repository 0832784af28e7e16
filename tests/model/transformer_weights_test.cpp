#include "model/transformer_weights.h"

#include "core/error.h"
#include "model/safetensors_file.h"
#include "model/small_transformer.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class TransformerWeightsTest : public testing::Test {
 protected:
  TransformerWeights read(const NamedTensors& tensors, bool pooler = true) {
    write_file(file_, safetensors_bytes(tensors));
    return read_transformer_weights(directory_.path(), config_, {.pooler = pooler}, torch::kFloat64);
  }
  std::string refusal(const NamedTensors& tensors, bool pooler = true) {
    const std::string message = message_of<InputError>([&] { read(tensors, pooler); });
    EXPECT_THAT(message, HasSubstr(file_));
    return message;
  }

  ModelConfig config_ = small_config();
  TransformerWeights weights_ = random_weights(config_, 1);
  torch::Tensor token_types_ = RandomTensors(2).normal({2, config_.hidden});
  TemporaryDirectory directory_;
  std::string file_ = directory_ / "model.safetensors";
};

TEST_F(TransformerWeightsTest, ReadsEveryTensorWithOrWithoutThePrefix) {
  for (const std::string prefix : {"", "bert."}) {
    NamedTensors tensors = named_tensors(weights_, token_types_, prefix);
    tensors["classifier.weight"] = torch::ones({2, 12});
    const TransformerWeights read_back = read(tensors);
    EXPECT_EQ(read_back.parameters(), weights_.parameters());
    EXPECT_TRUE(torch::equal(read_back.positions[1], weights_.positions[0] + token_types_[1]));
    // With the embedding of the token type taken out again, all tensors are those that were written.
    TransformerWeights plain = read_back;
    plain.positions = weights_.positions;
    const NamedTensors found = named_tensors(plain, token_types_, prefix);
    for (const auto& [name, tensor] : found) EXPECT_TRUE(torch::equal(tensor, tensors.at(name))) << name;
  }
}

TEST_F(TransformerWeightsTest, ReadsTheOldNamesOfNorms) {
  NamedTensors tensors = named_tensors(weights_, token_types_), old;
  for (const auto& [name, tensor] : tensors) {
    std::string changed = name;
    if (const size_t at = name.find("LayerNorm.weight"); at != std::string::npos)
      changed.replace(at + 10, 6, "gamma");
    if (const size_t at = name.find("LayerNorm.bias"); at != std::string::npos)
      changed.replace(at + 10, 4, "beta");
    old[changed] = tensor;
  }
  const TransformerWeights read_back = read(old);
  EXPECT_TRUE(torch::equal(read_back.layers[1].output_norm.weight, weights_.layers[1].output_norm.weight));
  EXPECT_TRUE(torch::equal(read_back.embedding_norm.bias, weights_.embedding_norm.bias));
}

TEST_F(TransformerWeightsTest, WidensOtherFloatingTypes) {
  NamedTensors tensors = named_tensors(weights_, token_types_);
  for (auto& [name, tensor] : tensors) tensor = tensor.to(torch::kBFloat16);
  const TransformerWeights read_back = read(tensors);
  EXPECT_EQ(read_back.words.scalar_type(), torch::kFloat64);
  EXPECT_TRUE(torch::equal(read_back.words, weights_.words.to(torch::kBFloat16).to(torch::kFloat64)));
}

TEST_F(TransformerWeightsTest, NamesTheTensorThatIsMissing) {
  const NamedTensors all = named_tensors(weights_, token_types_);
  for (const auto& [name, tensor] : all) {
    NamedTensors some = all;
    some.erase(name);
    EXPECT_THAT(refusal(some), HasSubstr("no tensor " + name));
  }
}

TEST_F(TransformerWeightsTest, NeedsAPoolerOnlyWhereItIsAskedFor) {
  NamedTensors tensors = named_tensors(weights_, token_types_);
  tensors.erase("pooler.dense.weight");
  EXPECT_FALSE(read(tensors, false).pooler.weight.defined());
  EXPECT_THAT(refusal(tensors, true), HasSubstr("pooler.dense.weight"));
}

TEST_F(TransformerWeightsTest, NamesTheTensorOfAnotherShape) {
  NamedTensors tensors = named_tensors(weights_, token_types_);
  tensors["encoder.layer.1.output.dense.weight"] = torch::ones({20, 12}, torch::kFloat64);
  EXPECT_THAT(refusal(tensors), AllOf(HasSubstr("encoder.layer.1.output.dense.weight as [20, 12]"),
                                      HasSubstr("config.json asks for [12, 20]")));
}

// The names are those that transformers gives the modules.
TEST(EncoderSites, StandLayerByLayerInTheOrderOfTheComputation) {
  const auto sites = transformer_sites(small_config(), {"output", "query", "intermediate"}, {0, 1});
  ASSERT_EQ(sites.size(), 6u);
  const std::vector<std::string> names = {
      "encoder.layer.0.attention.self.query", "encoder.layer.0.intermediate.dense",
      "encoder.layer.0.output.dense",         "encoder.layer.1.attention.self.query",
      "encoder.layer.1.intermediate.dense",   "encoder.layer.1.output.dense"};
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(sites[i].name, names[i]);
    EXPECT_EQ(sites[i].layer, int64_t(i) / 3);
  }
  EXPECT_EQ(sites[1].target, "intermediate");
  EXPECT_EQ(sites[1].rows, 20);
  EXPECT_EQ(sites[1].columns, 12);
  EXPECT_EQ(sites[2].rows, 12);
  EXPECT_EQ(sites[2].columns, 20);
}

}  // namespace
}  // namespace pf2lora
