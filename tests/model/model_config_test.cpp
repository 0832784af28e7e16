#include "model/model_config.h"

#include <gtest/gtest.h>

#include <map>

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
              AllOf(HasSubstr("'mamba'"),
                    HasSubstr("supported: bert, roberta, distilbert, deberta-v2, gpt2, llama, qwen2")));
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
  EXPECT_THAT(refusal_of_change(R"("vocab_size": 99)", R"("vocab_size": -1)"),
              HasSubstr("the vocabulary's size as -1"));
}

// Settings of other families that are not supported, each added to a configuration that is fine.
struct Unsupported {
  std::string family, setting, named;
};
class UnsupportedSetting : public ModelConfigTest, public testing::WithParamInterface<Unsupported> {};

const std::map<std::string, std::string> kFine = {
    {"bert", kSizes},
    {"roberta", kSizes + R"(, "pad_token_id": 1)"},
    {"deberta-v2", kSizes + R"(, "relative_attention": true, "share_att_key": true,
                                 "position_biased_input": false, "pos_att_type": "c2p|p2c")"},
    {"gpt2", R"("n_layer": 3, "n_embd": 12, "n_head": 4, "vocab_size": 99, "n_positions": 17)"},
    {"llama", kSizes + R"(, "head_dim": 6)"},
    {"qwen2", kSizes + R"(, "head_dim": 6)"}};

TEST_P(UnsupportedSetting, IsRefusedByName) {
  const auto& [family, setting, named] = GetParam();
  const std::string fine = R"({"model_type": ")" + family + R"(", )" + kFine.at(family);
  EXPECT_EQ(read(fine + "}").family->architecture, family);
  EXPECT_THAT(refusal(fine + ", " + setting + "}"), HasSubstr(named));
}

// A key that is given twice has its last value.
INSTANTIATE_TEST_SUITE_P(
    , UnsupportedSetting,
    testing::Values(
        Unsupported{"bert", R"("is_decoder": true)", "is_decoder true; only false"},
        Unsupported{"roberta", R"("position_embedding_type": "relative_key_query")",
                    "position_embedding_type"},
        Unsupported{"deberta-v2", R"("relative_attention": false)", "relative_attention false; only true"},
        Unsupported{"deberta-v2", R"("share_att_key": false)", "share_att_key false; only true"},
        Unsupported{"deberta-v2", R"("position_biased_input": true)",
                    "position_biased_input true; only false"},
        Unsupported{"deberta-v2", R"("conv_kernel_size": 3)", "conv_kernel_size 3; only 0"},
        Unsupported{"deberta-v2", R"("embedding_size": 6)", "embedding_size 6; only 12"},
        Unsupported{"gpt2", R"("scale_attn_by_inverse_layer_idx": true)",
                    "scale_attn_by_inverse_layer_idx true; only false"},
        Unsupported{"gpt2", R"("scale_attn_weights": false)", "scale_attn_weights false; only true"},
        Unsupported{"gpt2", R"("add_cross_attention": true)", "add_cross_attention true; only false"},
        Unsupported{"qwen2", R"("use_sliding_window": true)", "use_sliding_window true; only false"},
        Unsupported{"llama", R"("rope_scaling": {"rope_type": "yarn", "factor": 2.0})",
                    "'yarn', which is not supported; supported: default, linear, llama3"},
        Unsupported{"qwen2", R"("rope_parameters": {"type": "dynamic"})", "'dynamic'"},
        Unsupported{"llama", R"("rope_parameters": {"rope_type": "linear"})", "factor"},
        Unsupported{"llama", R"("rope_parameters": {"partial_rotary_factor": 0.5})",
                    "partial_rotary_factor 0.5"},
        Unsupported{"llama", R"("num_key_value_heads": 3)", "4 attention heads that cannot share 3"},
        Unsupported{"llama", R"("head_dim": 3)", "a width of 3; rotary positions turn pairs"},
        Unsupported{"llama", R"("hidden_act": "quick_gelu")", "'quick_gelu'"}));

// What DeBERTa's own defaults, of its first version, ask for.
TEST_F(ModelConfigTest, RefusesDebertaWithoutRelativeAttention) {
  EXPECT_THAT(refusal(R"({"model_type": "deberta-v2", )" + kSizes + "}"),
              HasSubstr("lacks relative_attention true, share_att_key true and position_biased_input false"));
}

// Older files of Llama hold the base of the frequencies apart, newer ones in rope_parameters.
TEST_F(ModelConfigTest, ReadsRotaryPositionsInEitherForm) {
  const std::string sizes = R"({"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 16,
    "num_attention_heads": 4, "intermediate_size": 20, "vocab_size": 99, "max_position_embeddings": 17, )";
  for (const std::string rope :
       {R"("rope_theta": 100.0, "rope_scaling": {"type": "linear", "factor": 4.0})",
        R"("rope_parameters": {"rope_theta": 100.0, "rope_type": "linear", "factor": 4.0})"})
    EXPECT_THAT(read(sizes + rope + "}").rotary_frequencies,
                testing::ElementsAre(testing::DoubleEq(0.25), testing::DoubleEq(0.025)));
  EXPECT_THAT(read(sizes + R"("rope_theta": 100.0, "rope_scaling": null})").rotary_frequencies,
              testing::ElementsAre(testing::DoubleEq(1), testing::DoubleEq(0.1)));
}

}  // namespace
}  // namespace pf2lora
