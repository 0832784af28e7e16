#include "model/model_config.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "io/temporary_directory.h"
#include "model/family.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kSizes =
    R"("num_hidden_layers": 3, "hidden_size": 12, "num_attention_heads": 4, "intermediate_size": 20,
       "vocab_size": 99, "max_position_embeddings": 17)";

class ModelConfigTest : public testing::Test {
 protected:
  ModelConfig read(const std::string& text) {
    write_file(file_, text);
    return read_model_config(directory_.path());
  }
  // The message, which must name the file.
  std::string refusal(const std::string& text) {
    const std::string message = message_of<InputError>([&] { read(text); });
    EXPECT_THAT(message, HasSubstr(file_));
    return message;
  }
  // `from`, which must be there, replaced in a configuration that is fine.
  std::string refusal_of_change(const std::string& from, const std::string& to) {
    std::string text = R"({"model_type": "bert", )" + kSizes + "}";
    text.replace(text.find(from), from.size(), to);
    return refusal(text);
  }

  TemporaryDirectory directory_;
  std::string file_ = directory_ / "config.json";
};

TEST_F(ModelConfigTest, ReadsWhatTransformersWrites) {
  const ModelConfig config = read(R"({"model_type": "bert", "hidden_act": "gelu_new", "layer_norm_eps": 1e-5,
    "type_vocab_size": 1, "position_embedding_type": "absolute", "unknown": [], )" +
                                  kSizes + "}");
  EXPECT_EQ(config.family->architecture, "bert");
  EXPECT_EQ(config.activation, "gelu_new");
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.hidden, 12);
  EXPECT_EQ(config.heads, 4);
  EXPECT_EQ(config.intermediate, 20);
  EXPECT_EQ(config.vocabulary, 99);
  EXPECT_EQ(config.positions, 17);
  EXPECT_EQ(config.token_types, 1);
  EXPECT_EQ(config.norm_epsilon, 1e-5);
}

// The defaults of transformers' BertConfig.
TEST_F(ModelConfigTest, TakesTransformersDefaultsForWhatIsLeftOut) {
  const ModelConfig config = read(R"({"model_type": "bert", )" + kSizes + "}");
  EXPECT_EQ(config.activation, "gelu");
  EXPECT_EQ(config.token_types, 2);
  EXPECT_EQ(config.norm_epsilon, 1e-12);
}

TEST_F(ModelConfigTest, RefusesAMissingFile) {
  EXPECT_THAT(message_of<InputError>([&] { read_model_config(directory_ / "nowhere"); }),
              AllOf(HasSubstr(directory_ / "nowhere/config.json"), HasSubstr("--model takes a directory")));
}

TEST_F(ModelConfigTest, RefusesDamagedFiles) {
  for (const std::string text : {"", "{\"model_type\": \"bert\", ", "[1, 2]", "7", "\x89HDF\r\n", "null"})
    EXPECT_THAT(refusal(text), HasSubstr("damaged or incomplete")) << text;
  EXPECT_THAT(refusal_of_change(R"("hidden_size": 12)", R"("hidden_size": "many")"), HasSubstr("damaged"));
  EXPECT_THAT(refusal_of_change(R"("hidden_size": 12)", R"("hidden": 12)"), HasSubstr("hidden_size"));
}

TEST_F(ModelConfigTest, RefusesAnUnsupportedArchitectureWithTheListOfThoseThatAre) {
  EXPECT_THAT(refusal_of_change(R"("bert")", R"("mamba")"),
              AllOf(HasSubstr("'mamba'"), HasSubstr("supported: bert")));
  EXPECT_THAT(refusal("{" + kSizes + "}"), HasSubstr("architecture ''"));
}

TEST_F(ModelConfigTest, RefusesAnUnknownActivationWithTheListOfThoseThatAre) {
  EXPECT_THAT(refusal_of_change(R"("bert")", R"("bert", "hidden_act": "swish")"),
              AllOf(HasSubstr("'swish'"), HasSubstr("gelu, gelu_new, gelu_pytorch_tanh, relu, silu")));
}

TEST_F(ModelConfigTest, RefusesRelativePositions) {
  EXPECT_THAT(refusal_of_change(R"("bert")", R"("bert", "position_embedding_type": "relative_key")"),
              HasSubstr("position_embedding_type \"relative_key\""));
}

TEST_F(ModelConfigTest, RefusesSizesThatCannotBe) {
  EXPECT_THAT(refusal_of_change(R"("num_attention_heads": 4)", R"("num_attention_heads": 5)"),
              AllOf(HasSubstr("hidden size of 12"), HasSubstr("5 attention heads do not divide")));
  EXPECT_THAT(refusal_of_change(R"("num_attention_heads": 4)", R"("num_attention_heads": 0)"),
              HasSubstr("the number of attention heads as 0; it must be positive"));
  EXPECT_THAT(refusal_of_change(R"("vocab_size": 99)", R"("vocab_size": -1)"), HasSubstr("the vocabulary's size as -1"));
}

}  // namespace
}  // namespace pf2lora
