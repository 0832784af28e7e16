#include "model/token_search.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "core/error.h"
#include "model/beams.h"

namespace pf2lora {
namespace {

using torch::Tensor;

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Tokens that would end an n-gram which the text already has: NoRepeatNGramLogitsProcessor of transformers.
std::vector<int32_t> repeating_tokens(const std::vector<int32_t>& text, int64_t n) {
  std::vector<int32_t> tokens;
  const int64_t length = int64_t(text.size());
  const auto tail = text.end() - std::min(n - 1, length);
  for (int64_t i = 0; i + n <= length; ++i)
    if (std::equal(tail, text.end(), text.begin() + i)) tokens.push_back(text[size_t(i + n - 1)]);
  return tokens;
}

// The search over all texts that are not done, of which each has `beams` rows of scores.
class Search {
 public:
  Search(const std::vector<std::vector<int32_t>>& prompts, int64_t positions, const GenerationRules& rules)
      : rules_(rules) {
    for (const auto& prompt : prompts) texts_.emplace_back(prompt, positions, rules);
  }

  std::vector<std::vector<int32_t>> run(NextScores& next) {
    std::vector<int64_t> rows, parents;
    std::vector<int32_t> tokens;
    for (size_t text = 0; text < texts_.size(); ++text) {
      if (texts_[text].done()) continue;
      open_.push_back(text);
      rows.insert(rows.end(), size_t(rules_.beams), int64_t(text));
    }
    if (!open_.empty()) {
      const Tensor scores = next.begin();
      step(scores.index_select(0, torch::tensor(rows, torch::kInt64).to(scores.device())));
    }
    for (;;) {
      parents.clear();
      tokens.clear();
      std::vector<size_t> still_open;
      for (size_t place = 0; place < open_.size(); ++place) {
        const Beams& text = texts_[open_[place]];
        if (text.done()) continue;
        still_open.push_back(open_[place]);
        for (const Beams::Sequence& sequence : text.running()) {
          parents.push_back(rows[place * size_t(rules_.beams) + size_t(sequence.parent)]);
          tokens.push_back(sequence.text.back());
        }
      }
      open_ = still_open;
      if (open_.empty()) break;
      step(next.extend(parents, tokens));
      rows.resize(parents.size());
      std::iota(rows.begin(), rows.end(), 0);
    }
    std::vector<std::vector<int32_t>> results;
    for (const Beams& text : texts_) results.push_back(text.result());
    return results;
  }

 private:
  // In single precision, as transformers judges scores whatever the model's type. [texts * beams, vocabulary]
  void step(const Tensor& scores) {
    const int64_t texts = int64_t(open_.size()), vocabulary = scores.size(1);
    const Tensor raw = scores.to(torch::kFloat32);
    if (rules_.beams == 1) {
      const Tensor allowed = without_repeats(raw), best = allowed.argmax(1);
      return take(allowed.gather(1, best.unsqueeze(1)), best.unsqueeze(1), vocabulary);
    }
    std::vector<float> so_far;
    for (size_t text : open_)
      for (const Beams::Sequence& sequence : texts_[text].running()) so_far.push_back(sequence.score);
    const Tensor total =
        without_repeats(torch::log_softmax(raw, 1)) + torch::tensor(so_far).to(raw.device()).unsqueeze(1);
    const auto [best, places] = total.view({texts, -1}).topk(Beams::candidates(rules_), 1);
    take(best, places, vocabulary);
  }

  Tensor without_repeats(const Tensor& scores) const {
    if (rules_.no_repeat_ngram == 0) return scores;
    std::vector<int64_t> places;
    int64_t row = 0;
    for (size_t text : open_)
      for (const Beams::Sequence& sequence : texts_[text].running()) {
        for (int32_t token : repeating_tokens(sequence.text, rules_.no_repeat_ngram))
          places.push_back(row + token);
        row += scores.size(1);
      }
    if (places.empty()) return scores;
    const Tensor at = torch::tensor(places, torch::kInt64).to(scores.device());
    return scores.flatten().index_fill(0, at, kNothing).view(scores.sizes());
  }

  // scores and places [texts, candidates], best first; a place is beam * vocabulary + token.
  void take(const Tensor& scores, const Tensor& places, int64_t vocabulary) {
    const Tensor near_scores = scores.to(torch::kCPU).contiguous(),
                 near_places = places.to(torch::kCPU).contiguous();
    const float* score = near_scores.data_ptr<float>();
    const int64_t* place = near_places.data_ptr<int64_t>();
    std::vector<Candidate> best(static_cast<size_t>(scores.size(1)));
    for (size_t text : open_) {
      for (Candidate& candidate : best) {
        if (std::isnan(*score))
          throw NumericalError(
              "scores of next tokens are not numbers; the adapters have diverged or the model is damaged");
        candidate = {*score++, *place / vocabulary, int32_t(*place % vocabulary)};
        ++place;
      }
      texts_[text].take(best);
    }
  }

  const GenerationRules rules_;
  std::vector<Beams> texts_;
  std::vector<size_t> open_;
};

}  // namespace

std::vector<std::vector<int32_t>> search_tokens(const std::vector<std::vector<int32_t>>& prompts,
                                                int64_t positions, const GenerationRules& rules,
                                                NextScores& next) {
  if (rules.beams < 1 || rules.no_repeat_ngram < 0)
    throw std::invalid_argument("a search has at least one beam, and n-grams at least one token");
  const torch::NoGradGuard constant;
  return Search(prompts, positions, rules).run(next);
}

}  // namespace pf2lora
