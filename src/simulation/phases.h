// Where the time of a round goes, by phase, on one rank.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "core/profile.h"

namespace pf2lora {

// `write` is the time since the previous round was recorded: files of that round.
enum class Phase { train, move, all_reduce, evaluate, spectra, write };
inline const std::vector<std::string> kPhaseNames = {"train",    "move",    "all_reduce",
                                                     "evaluate", "spectra", "write"};

class PhaseClock {
 public:
  void start() { begin_ = profile().now(); }
  // Credits the time since the last call to that phase.
  void passed(Phase phase) {
    const int64_t end = profile().now();
    seconds_[size_t(phase)] += double(end - begin_) / 1e9;
    profile().add("phase", kPhaseNames[size_t(phase)].c_str(), begin_, end);
    begin_ = end;
  }
  // Seconds by phase since the last call.
  std::array<double, 6> take() {
    const auto result = seconds_;
    seconds_ = {};
    return result;
  }

 private:
  int64_t begin_ = 0;  // of the phase, in nanoseconds of the profile
  std::array<double, 6> seconds_{};
};

}  // namespace pf2lora
