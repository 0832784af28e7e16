// How long the rest of a run takes, from the rounds of this call.
#pragma once
#include <cstdint>
#include <numeric>
#include <vector>

namespace pf2lora {

class RoundPace {
 public:
  void round_took(double seconds) { seconds_.push_back(seconds); }
  // Seconds for so many more rounds, like the later half of those that are over; NaN before the first. The
  // first rounds fill caches.
  double seconds_for(int64_t rounds) const {
    const auto later = seconds_.begin() + ptrdiff_t(seconds_.size() / 2);
    return double(rounds) * std::accumulate(later, seconds_.end(), 0.0) / double(seconds_.end() - later);
  }

 private:
  std::vector<double> seconds_;
};

}  // namespace pf2lora
