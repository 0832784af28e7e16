#include "core/clock.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace pf2lora {
namespace {

// 1234567890 s after the epoch was 2009-02-13 23:31:30 UTC.
TEST(Clock, WritesUtcInIso8601) {
  EXPECT_EQ(utc_string(std::chrono::system_clock::from_time_t(0)), "1970-01-01T00:00:00Z");
  EXPECT_EQ(utc_string(std::chrono::system_clock::from_time_t(1234567890)), "2009-02-13T23:31:30Z");
  const std::string now = utc_now();
  EXPECT_EQ(now.size(), 20u);
  EXPECT_GT(now, "2025-01-01T00:00:00Z");  // the text sorts as time does
  EXPECT_LT(now, "2100-01-01T00:00:00Z");
}

TEST(Clock, StopwatchNeverGoesBack) {
  Stopwatch watch;
  double last = 0;
  for (int i = 0; i < 1000; ++i) {
    const double now = watch.seconds();
    EXPECT_GE(now, last);
    last = now;
  }
}

}  // namespace
}  // namespace pf2lora
