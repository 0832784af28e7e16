// Generated text, token for token: that of transformers, from tests/golden/make_generation_golden.py, and
// that of the reference transformer, which reads everything anew at every step.
#include "model/generator.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/error.h"
#include "model/generating_model.h"
#include "model/golden.h"
#include "model/recomputed_scores.h"
#include "model/small_transformer.h"

namespace pf2lora {
namespace {

using torch::Tensor;
using Texts = std::vector<std::vector<int32_t>>;

std::vector<int64_t> counting(int64_t count) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

Texts cut(const std::vector<int32_t>& tokens, const std::vector<int64_t>& offsets) {
  Texts texts;
  for (size_t i = 0; i + 1 < offsets.size(); ++i)
    texts.emplace_back(tokens.begin() + offsets[i], tokens.begin() + offsets[i + 1]);
  return texts;
}

// A client for each list of prompts.
Batch batch_of_texts(const std::vector<Texts>& by_client) {
  Batch batch;
  batch.client_offsets = batch.token_offsets = {0};
  for (const Texts& texts : by_client) {
    batch.clients.push_back(int64_t(batch.clients.size()));
    for (const auto& text : texts) {
      batch.examples.push_back(int64_t(batch.examples.size()));
      batch.tokens.insert(batch.tokens.end(), text.begin(), text.end());
      batch.token_offsets.push_back(int64_t(batch.tokens.size()));
    }
    batch.client_offsets.push_back(int64_t(batch.examples.size()));
  }
  return batch;
}

// A decoder of the golden script, adapted at all its sites.
struct Decoder {
  explicit Decoder(const std::string& name)
      : directory(golden_directory() + "/generation_" + name),
        file(Hdf5File::open(directory + ".h5")),
        config(read_model_config(directory)),
        weights(read_transformer_weights(directory, config, {.scores = true}, torch::kFloat64)) {
    std::vector<std::string> targets = kAllTargets;
    if (config.gated) targets.push_back("gate");
    sites = transformer_sites(config, targets, counting(config.layers));
  }

  Tensor tensor(const std::string& name) const {
    return torch::tensor(file.read<double>(name), torch::kFloat64).view(file.shape(name));
  }
  AdapterSet pairs(const std::vector<int64_t>& clients) const {
    const double scale = file.attribute<double>("adapters", "scale");
    AdapterSet set;
    for (const Site& site : sites) {
      std::vector<Tensor> downs, ups;
      for (int64_t client : clients) {
        const std::string pair = "adapters/" + std::to_string(client) + "/" + site.name;
        downs.push_back(tensor(pair + "/A"));
        ups.push_back(scale * tensor(pair + "/B"));
      }
      set.pairs.push_back({torch::stack(downs), torch::stack(ups)});
    }
    return set;
  }
  int32_t end_token() const { return int32_t(file.attribute<int64_t>("/", "end_token")); }
  GenerationRules rules(const std::string& name) const {
    const std::string group = "generated/" + name;
    return {.most_tokens = file.attribute<int64_t>(group, "most_tokens"),
            .beams = file.attribute<int64_t>(group, "beams"),
            .no_repeat_ngram = file.attribute<int64_t>(group, "no_repeat_ngram"),
            .length_penalty = file.attribute<double>(group, "length_penalty"),
            .end_token = end_token()};
  }
  // Which prompts a rule continues.
  std::vector<int64_t> continued(const std::string& rule) const {
    return file.read<int64_t>("generated/" + rule + "/prompts");
  }
  Texts texts(const std::string& group) const {
    return cut(file.read<int32_t>(group + "/tokens"), file.read<int64_t>(group + "/offsets"));
  }

  std::string directory;
  Hdf5File file;
  ModelConfig config;
  TransformerWeights weights;
  std::vector<Site> sites;
};

class GoldenGeneration : public testing::TestWithParam<std::string> {};

// 24 prompts of 1 to 47 tokens, of which up to 48 positions leave room, with the adapters of three clients;
// fewer of them where a rule is a variation.
TEST_P(GoldenGeneration, IsThatOfTransformersAlone) {
  const Decoder decoder(GetParam());
  const Generator generator(decoder.weights, decoder.sites);
  const Texts prompts = decoder.texts("");
  const auto client = decoder.file.read<int32_t>("client");
  const std::vector<AdapterSet> adapters = {decoder.pairs({0}), decoder.pairs({1}), decoder.pairs({2})};
  for (const std::string& rule : decoder.file.children("generated")) {
    const Texts expected = decoder.texts("generated/" + rule);
    const std::vector<int64_t> chosen = decoder.continued(rule);
    ASSERT_EQ(expected.size(), chosen.size());
    for (size_t t = 0; t < chosen.size(); ++t) {
      const auto i = size_t(chosen[t]);
      EXPECT_EQ(generator.generate(batch_of_texts({{prompts[i]}}), adapters[size_t(client[i])],
                                   decoder.rules(rule))[0],
                expected[t])
          << rule << " " << i;
    }
  }
}

TEST_P(GoldenGeneration, IsThatOfTransformersPackedForThreeClients) {
  const Decoder decoder(GetParam());
  const Generator generator(decoder.weights, decoder.sites);
  const Texts prompts = decoder.texts("");
  const auto client = decoder.file.read<int32_t>("client");
  ASSERT_TRUE(std::is_sorted(client.begin(), client.end()));
  for (const std::string& rule : decoder.file.children("generated")) {
    std::vector<Texts> by_client(3);
    for (const int64_t i : decoder.continued(rule))
      by_client[size_t(client[size_t(i)])].push_back(prompts[size_t(i)]);
    const Texts found =
        generator.generate(batch_of_texts(by_client), decoder.pairs({0, 1, 2}), decoder.rules(rule));
    EXPECT_EQ(found, decoder.texts("generated/" + rule)) << rule;
  }
}

// What adapters carry beside pairs: an update of whole matrices, weights of ranks by example and, for GPT-2,
// a prompt and prefixes of the lower layer.
TEST_P(GoldenGeneration, WithEveryKindOfAdapterIsThatOfTheReference) {
  const Decoder decoder(GetParam());
  const Generator generator(decoder.weights, decoder.sites);
  const Texts all = decoder.texts("");
  const Batch prompts =
      batch_of_texts({{all.begin() + 2, all.begin() + 9}, {all.begin() + 12, all.begin() + 23}});
  RandomTensors random(3);
  AdapterSet adapters = decoder.pairs({2, 0});
  for (const Site& site : decoder.sites)
    adapters.dense.push_back(random.normal({site.rows, site.columns}, 0.1));
  adapters.dense[1] = Tensor();
  adapters.pairs[3] = {};
  adapters.rank_weights = random.normal({18, 3}).abs();
  if (decoder.config.position_kind == PositionKind::learned) {
    const auto vectors = [&](int64_t count) { return random.normal({2, count, decoder.config.hidden}); };
    adapters.prompt = vectors(3);
    adapters.prefix = {{vectors(5), vectors(5)}};
  }

  const ReferenceTransformer reference(decoder.weights, decoder.sites, {.task = Task::generation}, 0);
  const auto compute = [&](const Batch& texts, const Tensor& of_prompt) {
    // The reference scores the tokens that an example has from its first target on: here one more.
    Batch longer = batch_of_texts({});
    longer.clients = texts.clients;
    longer.examples = texts.examples;
    longer.client_offsets = texts.client_offsets;
    for (std::vector<int32_t> text : texts_of(texts)) {
      longer.targets.push_back(int32_t(text.size()));
      text.push_back(0);
      longer.tokens.insert(longer.tokens.end(), text.begin(), text.end());
      longer.token_offsets.push_back(int64_t(longer.tokens.size()));
    }
    AdapterSet by_text = adapters;
    by_text.rank_weights = adapters.rank_weights.index_select(0, of_prompt);
    return reference.output(longer, by_text, Keep::nothing).values;
  };
  for (const int64_t beams : {1, 3}) {
    const GenerationRules rules{
        .most_tokens = 16, .beams = beams, .no_repeat_ngram = 3, .end_token = decoder.end_token()};
    RecomputedScores recomputed(prompts, compute);
    const Texts expected = search_tokens(texts_of(prompts), decoder.config.positions - 1, rules, recomputed);
    // The reference reads one token more than there is, so it has room for one less.
    TransformerWeights shorter = decoder.weights;
    shorter.config.positions -= 1;
    EXPECT_EQ(Generator(shorter, decoder.sites).generate(prompts, adapters, rules), expected) << beams;
    AdapterSet others = adapters;
    others.rank_weights = Tensor();
    EXPECT_NE(Generator(shorter, decoder.sites).generate(prompts, others, rules), expected) << beams;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenGeneration, testing::Values("gpt2", "llama", "qwen2"),
                         [](const auto& info) { return info.param; });

// What follows a prompt in an example, such as the text that it is to be, is not read.
TEST(GeneratingModel, GoesOnFromThePromptsOfExamples) {
  const Decoder decoder("gpt2");
  const Texts all = decoder.texts("");
  const std::vector<Texts> by_client = {{all.begin() + 2, all.begin() + 6},
                                        {all.begin() + 20, all.begin() + 23}};
  std::vector<Texts> longer = by_client;
  std::vector<int32_t> targets;
  for (Texts& texts : longer)
    for (auto& text : texts) {
      targets.push_back(int32_t(text.size()));
      text.insert(text.end(), 1 + targets.size() % 2, int32_t(targets.size()));
    }
  Batch examples = batch_of_texts(longer);
  examples.targets = targets;
  const GenerationRules rules = {.most_tokens = 9, .beams = 3, .end_token = decoder.end_token()};
  const auto reference = [&] {
    return std::make_unique<ReferenceTransformer>(decoder.weights, decoder.sites,
                                                  Readout{.task = Task::generation}, 0);
  };
  const GeneratingModel model(reference(), decoder.weights);
  EXPECT_EQ(model.generate(examples, decoder.pairs({2, 0}), rules),
            Generator(decoder.weights, decoder.sites)
                .generate(batch_of_texts(by_client), decoder.pairs({2, 0}), rules));
  EXPECT_TRUE(torch::equal(model.loss(examples, decoder.pairs({2, 0})).loss,
                           reference()->loss(examples, decoder.pairs({2, 0})).loss));
  EXPECT_THROW(reference()->generate(examples, decoder.pairs({2, 0}), rules), OptionError);
}

TEST(Generator, RefusesModelsThatDoNotGenerate) {
  const TransformerWeights weights = random_weights(small_config(), 1);
  EXPECT_THROW(Generator(weights, {}), OptionError);
}

TEST(Generator, RefusesPrefixesWithoutLearnedPositions) {
  const Decoder decoder("llama");
  AdapterSet adapters;
  adapters.prefix = {{torch::zeros({1, 2, 32}), torch::zeros({1, 2, 32})}};
  EXPECT_THROW(Generator(decoder.weights, decoder.sites)
                   .generate(batch_of_texts({{{1, 2}}}), adapters, {.most_tokens = 3, .end_token = -1}),
               OptionError);
}

TEST(Generator, RefusesPromptsThatTheModelCannotRead) {
  const Decoder decoder("gpt2");
  const Generator generator(decoder.weights, decoder.sites);
  const auto text = [&](size_t length) {
    return generator.generate(batch_of_texts({{std::vector<int32_t>(length, 1)}}), {},
                              {.most_tokens = 3, .end_token = -1})[0];
  };
  EXPECT_THROW(text(0), std::invalid_argument);
  EXPECT_EQ(text(46).size(), 2);
  EXPECT_EQ(text(48).size(), 0);
  EXPECT_THROW(text(49), std::invalid_argument);
}

}  // namespace
}  // namespace pf2lora
