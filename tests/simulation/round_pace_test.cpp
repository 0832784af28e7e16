// The time that is left, by rounds that are over.
#include "simulation/round_pace.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pf2lora {
namespace {

TEST(RoundPace, CountsTheLaterHalfOfTheRounds) {
  RoundPace pace;
  EXPECT_TRUE(std::isnan(pace.seconds_for(3)));
  pace.round_took(100);
  EXPECT_EQ(pace.seconds_for(3), 300);
  pace.round_took(2);
  EXPECT_EQ(pace.seconds_for(2), 4);
  pace.round_took(4);
  EXPECT_EQ(pace.seconds_for(1), 3);
  EXPECT_EQ(pace.seconds_for(0), 0);
  pace.round_took(6);
  EXPECT_EQ(pace.seconds_for(1), 5);
}

}  // namespace
}  // namespace pf2lora
