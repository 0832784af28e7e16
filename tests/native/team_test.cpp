#include "native/team.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <vector>

namespace pf2lora::native {
namespace {

TEST(Team, CallsEveryPartOnceOnAThreadOfItsOwnAndTheFirstOnTheCallers) {
  Team team(4);
  ASSERT_EQ(team.threads(), 4);
  for (const int64_t parts : {4, 1, 3}) {
    std::vector<int> calls(size_t(parts), 0);
    std::vector<std::thread::id> threads(static_cast<size_t>(parts));
    team.run(parts, [&](int64_t i) {
      ++calls[size_t(i)];
      threads[size_t(i)] = std::this_thread::get_id();
    });
    EXPECT_EQ(calls, std::vector<int>(size_t(parts), 1));
    EXPECT_EQ(std::set<std::thread::id>(threads.begin(), threads.end()).size(), size_t(parts));
    EXPECT_EQ(threads.front(), std::this_thread::get_id());
  }
}

TEST(Team, OfOneThreadIsTheCaller) {
  Team team(1);
  EXPECT_EQ(team.threads(), 1);
  std::thread::id thread;
  team.run(1, [&](int64_t) { thread = std::this_thread::get_id(); });
  EXPECT_EQ(thread, std::this_thread::get_id());
}

TEST(Team, SeesWhatWasWrittenBeforeEachOfManyCallsAndIsSeenAfterThem) {
  Team team(3);
  std::vector<int64_t> numbers(3, 0), read(3, -1);
  for (int64_t call = 0; call < 20000; ++call) {
    numbers.assign(3, call);
    team.run(3, [&](int64_t i) { read[size_t(i)] = numbers[size_t(i)] + i; });
    ASSERT_EQ(read, (std::vector<int64_t>{call, call + 1, call + 2}));
  }
}

TEST(Team, WakesUpAfterAPauseAndEndsAsleepOrUnused) {
  Team unused(5), team(3);
  std::atomic<int> calls = 0;
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    team.run(3, [&](int64_t) { ++calls; });
  }
  EXPECT_EQ(calls, 9);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

}  // namespace
}  // namespace pf2lora::native
