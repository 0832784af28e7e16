// Which rounds evaluate, measure, record answers and save. The last round does the first three always.
#pragma once
#include "core/options.h"

namespace pf2lora {

struct Schedule {
  int64_t rounds, evaluate_every, spectra_every, answer_every, checkpoint_every;

  explicit Schedule(const Options& options)
      : rounds(options.rounds),
        evaluate_every(options.evaluate_every),
        spectra_every(options.spectra_every),
        answer_every(options.answer_every),
        checkpoint_every(options.checkpoint_every) {}

  bool evaluates(int64_t round) const { return round == rounds || every(evaluate_every, round); }
  bool measures(int64_t round) const { return round == rounds || every(spectra_every, round); }
  bool answers(int64_t round) const { return round == rounds || every(answer_every, round); }
  bool saves(int64_t round) const { return every(checkpoint_every, round); }

 private:
  static bool every(int64_t interval, int64_t round) { return interval > 0 && round % interval == 0; }
};

}  // namespace pf2lora
