#include "native/team.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <set>
#include <vector>

namespace pf2lora::native {
namespace {

TEST(Team, CallsEveryPartOnceAndTwoOnOneThreadNeverAtOnce) {
  Team team(4);
  ASSERT_EQ(team.threads(), 4);
  for (const int64_t parts : {4, 1, 3, 100}) {
    std::vector<int> calls(size_t(parts), 0);
    std::array<std::atomic<int>, 4> on_thread{};
    std::array<std::thread::id, 4> ids;
    std::atomic<bool> alone = true;
    team.run(parts, [&](int64_t i, int64_t thread) {
      if (++on_thread[size_t(thread)] > 1) alone = false;
      ++calls[size_t(i)];
      ids[size_t(thread)] = std::this_thread::get_id();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      --on_thread[size_t(thread)];
    });
    EXPECT_EQ(calls, std::vector<int>(size_t(parts), 1));
    EXPECT_TRUE(alone);
    EXPECT_TRUE(ids[0] == std::this_thread::get_id() || ids[0] == std::thread::id());
    if (parts == 100) {
      EXPECT_EQ(std::set<std::thread::id>(ids.begin(), ids.end()).size(), 4u);
    }
  }
}

TEST(Team, OfOneThreadIsTheCaller) {
  Team team(1);
  EXPECT_EQ(team.threads(), 1);
  std::thread::id thread;
  team.run(1, [&](int64_t, int64_t) { thread = std::this_thread::get_id(); });
  EXPECT_EQ(thread, std::this_thread::get_id());
}

TEST(Team, SeesWhatWasWrittenBeforeEachOfManyCallsAndIsSeenAfterThem) {
  Team team(3);
  std::vector<int64_t> numbers(3, 0), read(3, -1);
  for (int64_t call = 0; call < 20000; ++call) {
    numbers.assign(3, call);
    team.run(3, [&](int64_t i, int64_t) { read[size_t(i)] = numbers[size_t(i)] + i; });
    ASSERT_EQ(read, (std::vector<int64_t>{call, call + 1, call + 2}));
  }
}

TEST(Team, WakesUpAfterAPauseAndEndsAsleepOrUnused) {
  Team unused(5), team(3);
  std::atomic<int> calls = 0;
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    team.run(3, [&](int64_t, int64_t) { ++calls; });
  }
  EXPECT_EQ(calls, 9);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

}  // namespace
}  // namespace pf2lora::native
