// Which rounds evaluate, measure and save.
#include "simulation/schedule.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace pf2lora {
namespace {

std::vector<int64_t> rounds_where(const std::function<bool(int64_t)>& holds, int64_t rounds) {
  std::vector<int64_t> found;
  for (int64_t round = 1; round <= rounds; ++round) {
    if (holds(round)) found.push_back(round);
  }
  return found;
}

TEST(Schedule, MultiplesOfTheIntervalAndTheLastRound) {
  Options options;
  options.rounds = 7;
  options.evaluate_every = 3;
  options.spectra_every = 2;
  options.answer_every = 4;
  options.checkpoint_every = 5;
  const Schedule schedule(options);
  using Rounds = std::vector<int64_t>;
  EXPECT_EQ(rounds_where([&](int64_t r) { return schedule.evaluates(r); }, 7), (Rounds{3, 6, 7}));
  EXPECT_EQ(rounds_where([&](int64_t r) { return schedule.measures(r); }, 7), (Rounds{2, 4, 6, 7}));
  EXPECT_EQ(rounds_where([&](int64_t r) { return schedule.answers(r); }, 7), (Rounds{4, 7}));
  EXPECT_EQ(rounds_where([&](int64_t r) { return schedule.saves(r, 0); }, 7), (Rounds{5}));
}

TEST(Schedule, ZeroMeansTheLastRoundAlone) {
  Options options;
  options.rounds = 4;
  options.evaluate_every = options.spectra_every = options.checkpoint_every = 0;
  const Schedule schedule(options);
  using Rounds = std::vector<int64_t>;
  EXPECT_EQ(rounds_where([&](int64_t r) { return schedule.evaluates(r); }, 4), (Rounds{4}));
  EXPECT_EQ(rounds_where([&](int64_t r) { return schedule.measures(r); }, 4), (Rounds{4}));
  EXPECT_TRUE(rounds_where([&](int64_t r) { return schedule.saves(r, 0); }, 4).empty());
}

TEST(Schedule, SavesForTheTimeWhateverTheRound) {
  Options options;
  options.checkpoint_every = 0;
  options.checkpoint_minutes = 0.5;
  const Schedule schedule(options);
  EXPECT_FALSE(schedule.saves(1, 29.9));
  EXPECT_TRUE(schedule.saves(1, 30));
  options.checkpoint_minutes = 0;
  EXPECT_FALSE(Schedule(options).saves(1, 1e9));
}

}  // namespace
}  // namespace pf2lora
