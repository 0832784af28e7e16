#include "core/stop_signal.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <string>
#include <utility>

#include "core/error.h"

namespace pf2lora {
namespace {

TEST(StopSignal, NothingIsRequestedBeforeASignal) {
  clear_stop_request();
  install_stop_signals();
  EXPECT_FALSE(stop_requested());
  EXPECT_EQ(stop_reason(), "");
}

TEST(StopSignal, EachSignalAsksTheRunToStopAndIsNamed) {
  const std::pair<int, std::string> signals[] = {
      {SIGTERM, "signal SIGTERM"}, {SIGUSR1, "signal SIGUSR1"}, {SIGINT, "signal SIGINT"}};
  for (const auto& [number, reason] : signals) {
    clear_stop_request();
    install_stop_signals();
    ASSERT_EQ(raise(number), 0);
    EXPECT_TRUE(stop_requested());
    EXPECT_EQ(stop_reason(), reason);
  }
}

TEST(StopSignal, TheFirstOneIsTheReason) {
  clear_stop_request();
  install_stop_signals();
  raise(SIGUSR1);
  raise(SIGTERM);
  raise(SIGTERM);
  EXPECT_EQ(stop_reason(), "signal SIGUSR1");
}

TEST(StopSignal, TheSecondInterruptKills) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    clear_stop_request();
    install_stop_signals();
    raise(SIGINT);
    if (!stop_requested()) _exit(1);
    raise(SIGINT);
    _exit(2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << "exit status " << WEXITSTATUS(status);
  EXPECT_EQ(WTERMSIG(status), SIGINT);
}

TEST(StopSignal, ReadsThatASignalInterruptsGoOn) {
  clear_stop_request();
  install_stop_signals();
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t reader = getpid();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    usleep(50'000);
    kill(reader, SIGUSR1);
    usleep(50'000);
    _exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
  }
  char letter = 0;
  EXPECT_EQ(read(ends[0], &letter, 1), 1);
  EXPECT_EQ(letter, 'x');
  EXPECT_TRUE(stop_requested());
  waitpid(child, nullptr, 0);
  close(ends[0]);
  close(ends[1]);
}

TEST(TimeLimit, ZeroIsNoLimit) {
  TimeLimit limit(0);
  limit.round_took(1e9);
  EXPECT_FALSE(limit.next_round_would_pass(1e12));
}

TEST(TimeLimit, LeavesRoomForTheLongestRoundSoFarAndAMargin) {
  TimeLimit limit(1);  // 3600 s, 36 s kept
  EXPECT_FALSE(limit.next_round_would_pass(3563));
  EXPECT_TRUE(limit.next_round_would_pass(3565));
  limit.round_took(100);
  limit.round_took(10);
  EXPECT_FALSE(limit.next_round_would_pass(3453));  // 3453 + 110 < 3564
  EXPECT_TRUE(limit.next_round_would_pass(3455));
}

TEST(TimeLimit, LeavesRoomToSaveTheRoundAtItsEndAndTheNext) {
  TimeLimit limit(1);  // 3600 s, 36 s kept
  limit.round_took(100);
  limit.saving_took(30);
  limit.saving_took(20);
  EXPECT_FALSE(limit.next_round_would_pass(3393));  // 3393 + 110 + 2 * 30 < 3564
  EXPECT_TRUE(limit.next_round_would_pass(3395));
}

TEST(TimeLimit, ARoundLongerThanTheLimitStopsTheRun) {
  TimeLimit limit(0.5);
  limit.round_took(1700);
  EXPECT_TRUE(limit.next_round_would_pass(0));
  EXPECT_EQ(limit.reason(), "--max-hours 0.5");
}

TEST(TimeLimit, RefusesWhatIsNoTime) {
  EXPECT_THROW(TimeLimit{-1}, OptionError);
  EXPECT_THROW(TimeLimit{std::nan("")}, OptionError);
  EXPECT_THROW(TimeLimit{INFINITY}, OptionError);
}

}  // namespace
}  // namespace pf2lora
