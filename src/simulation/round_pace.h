// How long the rest of a run takes, from the rounds of this call.
#pragma once
#include <cstdint>
#include <limits>

namespace pf2lora {

class RoundPace {
 public:
  void round_took(double seconds) {
    (rounds_ == 0 ? first_ : others_) += seconds;
    ++rounds_;
  }
  // Seconds for so many more rounds; NaN before the first. The first round fills caches, so it counts only
  // while it is the only one.
  double seconds_for(int64_t rounds) const {
    if (rounds_ == 0) return std::numeric_limits<double>::quiet_NaN();
    return double(rounds) * (rounds_ == 1 ? first_ : others_ / double(rounds_ - 1));
  }

 private:
  double first_ = 0, others_ = 0;  // seconds
  int64_t rounds_ = 0;
};

}  // namespace pf2lora
