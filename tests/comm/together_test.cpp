// Errors on any rank reach all of them.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "mpi_test.h"

namespace pf2lora {
namespace {

struct Outcome {
  ExitCode code = ExitCode::done;
  std::string message;
};

Outcome outcome_of(const std::function<void()>& work) {
  try {
    communicator().together(work);
    return {};
  } catch (const AgreedError& error) {
    return {error.code(), error.what()};
  }
}

// " (rank R)" where some ranks did not fail.
std::string suffix(int rank) {
  return communicator().size() == 1 ? "" : " (rank " + std::to_string(rank) + ")";
}

TEST(Together, WorkThatEndsWellThrowsNowhere) {
  int runs = 0;
  communicator().together([&] { ++runs; });
  EXPECT_EQ(runs, 1);
}

TEST(Together, AnErrorOnAnySingleRankReachesAllRanks) {
  const int size = communicator().size();
  for (int failing = 0; failing < size; ++failing) {
    const Outcome outcome = outcome_of([&] {
      if (communicator().rank() == failing) throw InputError("rank " + std::to_string(failing) + "'s file");
    });
    EXPECT_EQ(outcome.code, ExitCode::bad_input);
    EXPECT_EQ(outcome.message, "rank " + std::to_string(failing) + "'s file" + suffix(failing));
  }
}

TEST(Together, TheLowestFailingRankIsHeard) {
  const int size = communicator().size();
  for (int lowest = 0; lowest < size; ++lowest) {
    const Outcome outcome = outcome_of([&] {
      const int rank = communicator().rank();
      if (rank == lowest) throw NumericalError("a loss of " + std::to_string(rank));
      if (rank > lowest) throw OptionError("an option of " + std::to_string(rank));
    });
    EXPECT_EQ(outcome.code, ExitCode::numerical_failure);
    EXPECT_EQ(outcome.message, "a loss of " + std::to_string(lowest) + suffix(lowest));
  }
}

TEST(Together, TheSameErrorEverywhereNamesNoRank) {
  const Outcome outcome = outcome_of([] { throw OptionError("rank is 0; give 1 or more"); });
  EXPECT_EQ(outcome.code, ExitCode::bad_option);
  EXPECT_EQ(outcome.message, "rank is 0; give 1 or more");
}

TEST(Together, DifferentTextsOnAllRanksNameTheRank) {
  const Outcome outcome =
      outcome_of([] { throw InputError("seen by " + std::to_string(communicator().rank())); });
  EXPECT_EQ(outcome.message, "seen by 0" + suffix(0));
}

TEST(Together, EveryKindOfExceptionIsCaught) {
  const int last = communicator().size() - 1;
  const auto on_last = [&](auto exception) {
    return outcome_of([&] {
      if (communicator().rank() == last) throw exception;
    });
  };
  Outcome outcome = on_last(std::bad_alloc());
  EXPECT_EQ(outcome.code, ExitCode::internal_error);
  EXPECT_EQ(outcome.message.substr(0, 13), "out of memory");
  outcome = on_last(std::out_of_range("index 7"));
  EXPECT_EQ(outcome.code, ExitCode::internal_error);
  EXPECT_EQ(outcome.message, "index 7" + suffix(last));
  outcome = on_last(42);
  EXPECT_EQ(outcome.code, ExitCode::internal_error);
  EXPECT_NE(outcome.message.find("unknown type"), std::string::npos);
  outcome = on_last(Error(ExitCode::checkpointed, ""));
  EXPECT_EQ(outcome.code, ExitCode::checkpointed);
  EXPECT_EQ(outcome.message, suffix(last));
  outcome = on_last(InputError(std::string(100'000, 'x')));
  EXPECT_EQ(outcome.message, std::string(100'000, 'x') + suffix(last));
}

TEST(Together, RanksGoOnTalkingAfterAnAgreedError) {
  outcome_of([] { throw InputError("first"); });
  EXPECT_EQ(communicator().all_reduce_max(communicator().rank()), communicator().size() - 1);
}

TEST(TogetherValue, HandsBackWhatWorkReturnedOnThisRank) {
  const std::vector<int> value =
      communicator().together_value([] { return std::vector<int>(3, communicator().rank()); });
  EXPECT_EQ(value, std::vector<int>(3, communicator().rank()));
  const auto pointer = communicator().together_value([] { return std::make_unique<int>(5); });
  EXPECT_EQ(*pointer, 5);
}

TEST(TogetherValue, ThrowsOnAllRanksWhenOneFails) {
  const auto work = []() -> int {
    if (communicator().is_root()) throw InputError("missing");
    return 1;
  };
  EXPECT_THROW(communicator().together_value(work), AgreedError);
}

}  // namespace
}  // namespace pf2lora
