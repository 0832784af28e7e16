// Where the time of a round goes, by phase, on one rank.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "core/clock.h"

namespace pf2lora {

// `write` is the time since the previous round was recorded: files of that round.
enum class Phase { train, move, all_reduce, evaluate, spectra, write };
inline const std::vector<std::string> kPhaseNames = {"train",    "move",    "all_reduce",
                                                     "evaluate", "spectra", "write"};

class PhaseClock {
 public:
  void start() { watch_.restart(); }
  // Credits the time since the last call to that phase.
  void passed(Phase phase) { seconds_[size_t(phase)] += watch_.restart(); }
  // Seconds by phase since the last call.
  std::array<double, 6> take() {
    const auto result = seconds_;
    seconds_ = {};
    return result;
  }

 private:
  Stopwatch watch_;
  std::array<double, 6> seconds_{};
};

}  // namespace pf2lora
