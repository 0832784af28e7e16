// The files that transformers saved for every family (tests/golden/make_family_golden.py): what is read of
// them, and what is said where something is missing.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <regex>

#include "core/error.h"
#include "io/temporary_directory.h"
#include "model/family.h"
#include "model/golden.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A copy of a model directory, whose files a test may damage.
struct CopiedModel {
  explicit CopiedModel(const std::string& name) {
    for (const auto& entry : std::filesystem::directory_iterator(golden_directory() + "/" + name))
      std::filesystem::copy(entry.path(), directory.path());
  }
  TransformerWeights read(WantedWeights wanted) const {
    return read_transformer_weights(directory.path(), read_model_config(directory.path()), wanted,
                                    torch::kFloat64);
  }
  std::string refusal(WantedWeights wanted) const {
    return message_of<InputError>([&] { read(wanted); });
  }

  TemporaryDirectory directory;
};

// Of a safetensors file, from its header.
std::vector<std::string> tensor_names(const std::string& bytes) {
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const std::string header = bytes.substr(sizeof length, length);
  const std::regex name(R"re("([^"]+)": ?\{ ?"dtype")re");
  std::vector<std::string> names;
  for (std::sregex_iterator at(header.begin(), header.end(), name), end; at != end; ++at)
    names.push_back((*at)[1]);
  return names;
}

class FamilyWeights : public testing::TestWithParam<std::string> {};

// So no tensor of the base model is left unread, and each that is missing is named. Without word embeddings a
// file shows no prefix.
TEST_P(FamilyWeights, NeedEveryTensorThatTransformersSaved) {
  const CopiedModel model("family_" + GetParam());
  const WantedWeights all{.scores = read_model_config(model.directory.path()).causal};
  EXPECT_GT(model.read(all).parameters(), 0);
  const std::string file = model.directory / "model.safetensors", bytes = read_file(file);
  const std::regex of_head("(classifier|pre_classifier|pooler|qa_outputs)\\..*");
  const std::string words = read_model_config(model.directory.path()).family->names.words + ".weight";
  int needed = 0;
  for (const std::string& name : tensor_names(bytes)) {
    if (std::regex_match(name, of_head)) continue;
    std::string changed = bytes;
    changed[changed.find("\"" + name + "\"") + 1] = '?';
    write_file(file, changed);
    const std::string named = name.ends_with(words) ? words : name;
    EXPECT_THAT(model.refusal(all), AllOf(HasSubstr(file), HasSubstr("no tensor " + named + ";")));
    ++needed;
  }
  EXPECT_GT(needed, 20);
}

INSTANTIATE_TEST_SUITE_P(, FamilyWeights,
                         testing::Values("bert_pairs", "roberta", "distilbert", "deberta", "deberta_c2p",
                                         "gpt2", "llama", "llama_scaled"),
                         [](const auto& info) { return info.param; });

// The base model alone, saved untied.
TEST(FamilyWeightsOfADecoder, NeedAMatrixOfScoresOnlyWhereTokensAreGenerated) {
  const CopiedModel model("family_qwen2_exact");
  EXPECT_FALSE(model.read({}).scores.defined());
  EXPECT_THAT(model.refusal({.scores = true}), HasSubstr("no tensor lm_head.weight"));
}

TEST(FamilyWeightsOfADecoder, TakeTiedScoresFromTheWords) {
  const TransformerWeights weights = CopiedModel("family_qwen2").read({.scores = true});
  EXPECT_TRUE(weights.scores.is_same(weights.words));
}

TEST(ShardedWeights, NameTheShardThatIsMissing) {
  const CopiedModel model("family_qwen2");
  const std::string shard = model.directory / "model-00002-of-00011.safetensors";
  ASSERT_TRUE(std::filesystem::remove(shard));
  EXPECT_THAT(model.refusal({}), AllOf(HasSubstr("cannot read " + shard), HasSubstr("No such file")));
}

TEST(ShardedWeights, RefuseADamagedIndex) {
  const CopiedModel model("family_qwen2");
  const std::string index = model.directory / "model.safetensors.index.json";
  for (const std::string text : {"", "{", "[]", R"({"weight_map": {"norm.weight": 7}})"}) {
    write_file(index, text);
    EXPECT_THAT(model.refusal({}), HasSubstr(index + " is damaged or incomplete")) << text;
  }
}

TEST(ShardedWeights, NameTheTensorThatNoShardHas) {
  const CopiedModel model("family_qwen2");
  for (const auto& entry : std::filesystem::directory_iterator(model.directory.path())) {
    std::string bytes = read_file(entry.path());
    const size_t at = bytes.find("\"model.norm.weight\"");
    if (entry.path().extension() == ".safetensors" && at != std::string::npos)
      write_file(entry.path(), bytes.replace(at + 1, 1, "?"));
  }
  EXPECT_THAT(model.refusal({}),
              AllOf(HasSubstr(model.directory.path()), HasSubstr("no tensor model.norm.weight;")));
}

}  // namespace
}  // namespace pf2lora
