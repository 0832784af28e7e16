#include "core/profile.h"

#include <chrono>

namespace pf2lora {
namespace {

int64_t steady_nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

void Profile::start(size_t most) {
  *this = {};
  most_ = most;
  start_ = steady_nanoseconds();
  recording_ = true;
}

int64_t Profile::now() const {
  return steady_nanoseconds() - start_;
}

void Profile::add(const char* kind, const char* name, int64_t begin, int64_t end) {
  if (!recording_) return;
  Total& total = totals_[{kind, name}];
  ++total.count;
  total.nanoseconds += end - begin;
  if (spans_.size() < most_) spans_.push_back({kind, name, begin, end});
}

Profile& profile() {
  static Profile profile;
  return profile;
}

}  // namespace pf2lora
