// Which rounds evaluate, measure, record answers and save: the first three by their number, and the last
// round does them always; a checkpoint by its number or for the time since the one before.
#pragma once
#include "core/options.h"

namespace pf2lora {

struct Schedule {
  int64_t rounds, evaluate_every, spectra_every, answer_every, checkpoint_every;
  double checkpoint_minutes;

  explicit Schedule(const Options& options)
      : rounds(options.rounds),
        evaluate_every(options.evaluate_every),
        spectra_every(options.spectra_every),
        answer_every(options.answer_every),
        checkpoint_every(options.checkpoint_every),
        checkpoint_minutes(options.checkpoint_minutes) {}

  bool evaluates(int64_t round) const { return round == rounds || every(evaluate_every, round); }
  bool measures(int64_t round) const { return round == rounds || every(spectra_every, round); }
  bool answers(int64_t round) const { return round == rounds || every(answer_every, round); }
  // `seconds`: since the last checkpoint, or the start. Ranks may see different times, and agree.
  bool saves(int64_t round, double seconds) const {
    return every(checkpoint_every, round) || (checkpoint_minutes > 0 && seconds >= 60 * checkpoint_minutes);
  }

 private:
  static bool every(int64_t interval, int64_t round) { return interval > 0 && round % interval == 0; }
};

}  // namespace pf2lora
