// Time: durations from a clock that never goes back, and the wall clock as text.
#pragma once
#include <chrono>
#include <ctime>
#include <string>

namespace pf2lora {

// Seconds since it was made or restarted.
class Stopwatch {
 public:
  void restart() { start_ = Clock::now(); }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// ISO 8601 in UTC to the second: 2025-03-01T09:30:00Z.
inline std::string utc_string(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm fields{};
  gmtime_r(&seconds, &fields);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &fields)};
}

inline std::string utc_now() {
  return utc_string(std::chrono::system_clock::now());
}

}  // namespace pf2lora
