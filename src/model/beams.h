// The sequences that a search keeps of one text.
#pragma once
#include <span>
#include <vector>

#include "model/token_search.h"

namespace pf2lora {

// A running sequence and a token that might follow it.
struct Candidate {
  float score;  // log-probability of the sequence with the token
  int64_t beam;
  int32_t token;
};

// _beam_search of transformers' generation/utils.py, in single precision as there; one beam follows the best
// token alone, as its _sample does.
class Beams {
 public:
  struct Sequence {
    std::vector<int32_t> text;  // prompt included
    float score;
    int64_t parent;  // the beam that it was before its last token
    bool finished = false;
  };

  Beams(const std::vector<int32_t>& prompt, int64_t positions, const GenerationRules& rules);

  // How many candidates a step takes: enough that beams remain when others end.
  static int64_t candidates(const GenerationRules& rules) { return rules.beams == 1 ? 1 : 2 * rules.beams; }
  bool done() const { return done_; }
  const std::vector<Sequence>& running() const { return running_; }  // [beams]
  // The best continuations, best first.
  void take(std::span<const Candidate> best);
  // New tokens of the best text, without the end token.
  std::vector<int32_t> result() const;

 private:
  Sequence extended(const Candidate& candidate) const;
  bool ends(const Candidate& candidate) const;
  float per_length(float score) const;
  bool may_improve() const;

  GenerationRules rules_;
  size_t prompt_;             // tokens
  int64_t room_, added_ = 0;  // new tokens
  bool done_;
  std::vector<Sequence> running_;
  std::vector<Sequence> best_;  // [beams], best first; those that are not finished stand for none yet
};

}  // namespace pf2lora
