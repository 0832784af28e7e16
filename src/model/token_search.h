// Which tokens continue a text: greedy and beam search as generate of transformers does them, with
// do_sample=False, early_stopping=False and num_return_sequences=1.
#pragma once
#include <torch/types.h>

#include <vector>

namespace pf2lora {

struct GenerationRules {
  int64_t most_tokens;          // new ones of a text
  int64_t beams = 1;            // 1: greedy
  int64_t no_repeat_ngram = 0;  // no text, prompt included, has so many tokens in a row twice; 0: it may
  double length_penalty = 1;    // with beams a text of n new tokens is worth log-probability / n^this
  int32_t end_token;            // ends a text; -1: none does
};

// Scores of what may follow sequences that grow by a token at a time.
class NextScores {
 public:
  virtual ~NextScores() = default;
  // Of what follows each prompt: [N, vocabulary]. To be called once, before extend.
  virtual torch::Tensor begin() = 0;
  // The sequences from now on: number i is the one that was number parents[i] before (in the first call, that
  // prompt), and tokens[i]. They stand in the order of their prompts, and prompts that go on have equally
  // many. Scores of what follows each: [S, vocabulary].
  virtual torch::Tensor extend(const std::vector<int64_t>& parents, const std::vector<int32_t>& tokens) = 0;
};

// The new tokens of each prompt, without the end token. No text grows beyond `positions` tokens. Throws
// NumericalError where scores are not numbers.
std::vector<std::vector<int32_t>> search_tokens(const std::vector<std::vector<int32_t>>& prompts,
                                                int64_t positions, const GenerationRules& rules,
                                                NextScores& next);

}  // namespace pf2lora
