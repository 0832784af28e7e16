// Times generation with a cache of keys and values against reading every text anew for every token, on one
// thread: a random GPT-2 of the small shape (12 layers of 768) in float32, prompts of equal length, 64 new
// tokens. Prints a line of JSON for every setting; the texts must be the same.
#include <torch/types.h>
#include <torch/utils.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "core/clock.h"
#include "model/cached_decoder.h"
#include "model/generator.h"
#include "model/recomputed_scores.h"

namespace pf2lora {
namespace {

using torch::Tensor;

TransformerWeights random_gpt2() {
  const int64_t hidden = 768, wide = 3072, vocabulary = 50257;
  // Matrices are stored as [in, out], as GPT-2's files have them.
  const auto linear = [](int64_t out, int64_t in) {
    return FrozenLinear{(0.02 * torch::randn({in, out})).t(), torch::zeros({out})};
  };
  const auto norm = [&] { return FrozenNorm{torch::ones({hidden}), torch::zeros({hidden})}; };
  TransformerWeights weights;
  weights.config = {.activation = "gelu_new",
                    .layers = 12,
                    .hidden = hidden,
                    .heads = 12,
                    .key_heads = 12,
                    .head_width = 64,
                    .intermediate = wide,
                    .vocabulary = vocabulary,
                    .positions = 1024,
                    .norm_epsilon = 1e-5,
                    .norm_place = NormPlace::before,
                    .causal = true};
  weights.words = 0.02 * torch::randn({vocabulary, hidden});
  weights.positions = 0.02 * torch::randn({1, 1024, hidden});
  weights.final_norm = norm();
  weights.scores = weights.words;
  for (int64_t i = 0; i < 12; ++i)
    weights.layers.push_back({.query = linear(hidden, hidden),
                              .key = linear(hidden, hidden),
                              .value = linear(hidden, hidden),
                              .attention_output = linear(hidden, hidden),
                              .intermediate = linear(wide, hidden),
                              .output = linear(hidden, wide),
                              .attention_norm = norm(),
                              .output_norm = norm()});
  return weights;
}

Batch random_prompts(int64_t count, int64_t length, int64_t vocabulary) {
  Batch batch;
  batch.clients = {0};
  batch.client_offsets = {0, count};
  batch.token_offsets = {0};
  const Tensor tokens = torch::randint(vocabulary, {count * length}, torch::kInt32);
  batch.tokens.assign(tokens.data_ptr<int32_t>(), tokens.data_ptr<int32_t>() + tokens.numel());
  for (int64_t i = 0; i < count; ++i) {
    batch.examples.push_back(i);
    batch.token_offsets.push_back((i + 1) * length);
  }
  return batch;
}

struct Setting {
  int64_t prompts, tokens, beams;
};

nlohmann::json compare(const TransformerWeights& weights, const Setting& setting) {
  const Batch prompts = random_prompts(setting.prompts, setting.tokens, weights.config.vocabulary);
  const GenerationRules rules{.most_tokens = 64, .beams = setting.beams, .end_token = -1};
  const std::vector<LayerSites> sites(weights.layers.size());
  const AdapterSet none;

  const Stopwatch cached_watch;
  const auto cached = Generator(weights, {}).generate(prompts, none, rules);
  const double cached_seconds = cached_watch.seconds();
  const Stopwatch watch;
  RecomputedScores scores(prompts, [&](const Batch& texts, const Tensor&) {
    return CachedDecoder(weights, sites, texts, none).begin();
  });
  const auto recomputed = search_tokens(texts_of(prompts), weights.config.positions, rules, scores);
  const double seconds = watch.seconds();
  return {{"prompts", setting.prompts},
          {"prompt_tokens", setting.tokens},
          {"beams", setting.beams},
          {"cached_seconds", cached_seconds},
          {"recomputed_seconds", seconds},
          {"times_as_fast", seconds / cached_seconds},
          {"same_texts", cached == recomputed}};
}

}  // namespace
}  // namespace pf2lora

int main() {
  try {
    torch::set_num_threads(1);
    torch::manual_seed(1);
    const torch::NoGradGuard constant;
    const pf2lora::TransformerWeights weights = pf2lora::random_gpt2();
    for (const pf2lora::Setting& setting :
         {pf2lora::Setting{1, 32, 1}, {1, 128, 1}, {8, 32, 1}, {1, 32, 4}, {8, 32, 4}})
      std::cout << pf2lora::compare(weights, setting) << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "generation_benchmark: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
