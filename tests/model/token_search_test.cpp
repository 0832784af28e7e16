#include "model/token_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "adapters/random_tensors.h"
#include "core/error.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// Scores [vocabulary, vocabulary] of what follows each token, whatever stands before it.
struct MarkovScores final : NextScores {
  MarkovScores(Tensor table, const std::vector<std::vector<int32_t>>& prompts) : table(std::move(table)) {
    for (const auto& prompt : prompts) last.push_back(prompt.back());
  }
  Tensor begin() override { return table.index_select(0, torch::tensor(last)); }
  Tensor extend(const std::vector<int64_t>&, const std::vector<int32_t>& tokens) override {
    asked.push_back(tokens.size());
    return table.index_select(0, torch::tensor(tokens));
  }
  Tensor table;
  std::vector<int32_t> last;
  std::vector<size_t> asked;  // how many sequences each step went on with
};

using Texts = std::vector<std::vector<int32_t>>;

Texts search(const Tensor& table, const Texts& prompts, const GenerationRules& rules,
             int64_t positions = 100) {
  MarkovScores scores(table, prompts);
  return search_tokens(prompts, positions, rules, scores);
}

// All 81 texts of four of three tokens, by hand; 27 beams keep every beginning.
TEST(TokenSearch, WithBeamsForAllTextsFindsTheMostLikely) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Tensor table = RandomTensors(seed).normal({3, 3}, 2);
    const Tensor likely = torch::log_softmax(table, 1);
    std::vector<int32_t> best;
    double highest = -std::numeric_limits<double>::infinity();
    for (int32_t text = 0; text < 81; ++text) {
      std::vector<int32_t> tokens = {text / 27, text / 9 % 3, text / 3 % 3, text % 3};
      double sum = 0;
      for (size_t i = 0; i < 4; ++i) sum += likely[i == 0 ? 1 : tokens[i - 1]][tokens[i]].item<double>();
      if (sum > highest) {
        highest = sum;
        best = tokens;
      }
    }
    EXPECT_EQ(search(table, {{1}}, {.most_tokens = 4, .beams = 27, .end_token = -1})[0], best) << seed;
  }
}

// 0 is followed by 1, 1 by 2 and 2 by 0, and next best is 3, which is followed by 0.
const Tensor kCycle = torch::tensor({{0., 9., 0., 5.}, {0., 0., 9., 5.}, {9., 0., 0., 5.}, {9., 0., 0., 0.}});

TEST(TokenSearch, RepeatsNoNgramOfTextOrPrompt) {
  const auto text = [](int64_t ngram) {
    return search(kCycle, {{0, 1, 2, 0}}, {.most_tokens = 6, .no_repeat_ngram = ngram, .end_token = -1})[0];
  };
  EXPECT_EQ(text(0), (std::vector<int32_t>{1, 2, 0, 1, 2, 0}));
  // 0 1, 1 2 and 2 0 are in the prompt.
  EXPECT_EQ(text(2), (std::vector<int32_t>{3, 0, 0, 2, 3, 1}));
  EXPECT_EQ(text(3), (std::vector<int32_t>{1, 3, 0, 1, 0, 1}));
}

TEST(TokenSearch, StopsAtTheEndTokenAndAtThePositions) {
  const Texts prompts = {{0}, {3, 3, 1}, {0, 1, 2, 0, 1}, {1, 1, 1, 1}};
  for (const int64_t beams : {1, 2}) {
    const auto texts = [&](int32_t end) {
      return search(kCycle, prompts, {.most_tokens = 7, .beams = beams, .end_token = end}, 5);
    };
    EXPECT_EQ(texts(-1), (Texts{{1, 2, 0, 1}, {2, 0}, {}, {2}})) << beams;
    EXPECT_EQ(texts(2), (Texts{{1}, {}, {}, {}})) << beams;
  }
}

// Texts that are done are asked nothing more.
TEST(TokenSearch, LeavesOutWhatIsDone) {
  const Texts prompts = {{0}, {1}, {2}};
  MarkovScores scores(kCycle, prompts);
  search_tokens(prompts, 100, {.most_tokens = 9, .end_token = 2}, scores);
  EXPECT_EQ(scores.asked, (std::vector<size_t>{2, 1}));
}

TEST(TokenSearch, RefusesScoresThatAreNotNumbers) {
  const Tensor table = torch::full({4, 4}, std::nan(""));
  for (const int64_t beams : {1, 3})
    EXPECT_THROW(search(table, {{0}}, {.most_tokens = 2, .beams = beams, .end_token = -1}), NumericalError);
}

}  // namespace
}  // namespace pf2lora
