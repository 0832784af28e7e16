#include "model/beams.h"

#include <algorithm>
#include <cmath>

namespace pf2lora {
namespace {

constexpr float kNever = -1e9F;  // a score that no text has

// The `count` best, best first.
std::vector<Beams::Sequence> best_of(std::vector<Beams::Sequence> sequences, int64_t count) {
  std::stable_sort(sequences.begin(), sequences.end(),
                   [](const auto& a, const auto& b) { return a.score > b.score; });
  sequences.resize(static_cast<size_t>(count));
  return sequences;
}

}  // namespace

Beams::Beams(const std::vector<int32_t>& prompt, int64_t positions, const GenerationRules& rules)
    : rules_(rules),
      prompt_(prompt.size()),
      room_(std::min(rules.most_tokens, positions - int64_t(prompt.size()))),
      done_(room_ <= 0),
      running_(size_t(rules.beams), {prompt, kNever, 0}),
      best_(running_) {
  // All beams are the prompt yet, and only the first one's continuations are to be found.
  running_[0].score = 0;
}

Beams::Sequence Beams::extended(const Candidate& candidate) const {
  Sequence sequence{running_[size_t(candidate.beam)].text, candidate.score, candidate.beam, ends(candidate)};
  sequence.text.push_back(candidate.token);
  return sequence;
}

bool Beams::ends(const Candidate& candidate) const {
  return candidate.token == rules_.end_token || added_ == room_;
}

float Beams::per_length(float score) const {
  return score / float(std::pow(double(added_), rules_.length_penalty));
}

// The heuristic of early_stopping=False: whether the best running sequence, were it to end here, would stand
// among the finished ones.
bool Beams::may_improve() const {
  const float possible = per_length(running_[0].score), worst = best_.back().score;
  return std::any_of(best_.begin(), best_.end(), [&](const Sequence& sequence) {
    return possible > (sequence.finished ? worst : kNever);
  });
}

void Beams::take(std::span<const Candidate> best) {
  ++added_;
  if (rules_.beams == 1) {
    best_ = running_ = {extended(best[0])};
    done_ = best_[0].finished;
    return;
  }
  // Only the first candidates may become texts; the others are there to go on with.
  std::vector<Sequence> open, ended = best_;
  for (size_t i = 0; i < best.size(); ++i) {
    Sequence sequence = extended(best[i]);
    const bool text = sequence.finished && i < size_t(rules_.beams);
    open.push_back(sequence);
    if (sequence.finished) open.back().score += kNever;
    sequence.score = per_length(sequence.score) + (text ? 0 : kNever);
    sequence.finished = text;
    ended.push_back(std::move(sequence));
  }
  const bool all_end =
      std::all_of(open.begin(), open.end(), [](const Sequence& sequence) { return sequence.finished; });
  running_ = best_of(std::move(open), rules_.beams);
  best_ = best_of(std::move(ended), rules_.beams);
  done_ = all_end || !may_improve();
}

std::vector<int32_t> Beams::result() const {
  std::vector<int32_t> added(best_[0].text.begin() + int64_t(prompt_), best_[0].text.end());
  if (!added.empty() && added.back() == rules_.end_token) added.pop_back();
  return added;
}

}  // namespace pf2lora
