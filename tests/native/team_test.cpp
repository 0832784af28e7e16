#include "native/team.h"

#include <gtest/gtest.h>

#ifdef __linux__
#include <sys/resource.h>
#include <unistd.h>
#endif

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"

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
      EXPECT_GE(std::set<std::thread::id>(ids.begin(), ids.end()).size(), 2u);
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
  Team team(6);  // more than there are parts: some come too late for a call
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

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
// Ends the process: 7 where a team of so many threads is refused by name.
void make_team_in_little_memory(int64_t threads) {
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlimit limit{rlim_t(pages * sysconf(_SC_PAGESIZE) + (64 << 20)), RLIM_INFINITY};
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::_Exit(1);
  try {
    Team team(threads);
  } catch (const OptionError& error) {
    const std::string message = error.what();
    const bool clear = message.find("--threads 500") == 0 && message.find("lower it") != message.npos;
    std::_Exit(clear ? 7 : 2);
  }
  std::_Exit(0);
}

TEST(TeamDeathTest, OfMoreThreadsThanTheSystemGivesIsRefusedAndItsThreadsEnd) {
  EXPECT_EXIT(make_team_in_little_memory(500), testing::ExitedWithCode(7), "");
}
#endif

}  // namespace
}  // namespace pf2lora::native
