// When training is said to diverge.
#include "simulation/loss_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Optional;

TEST(LossWatch, TellsOnceOfALossTenTimesThatOfGuessing) {
  LossWatch watch(24);  // log 24 = 3.178
  EXPECT_EQ(watch.round(3, 2.5), std::nullopt);
  EXPECT_EQ(watch.round(4, 31.7), std::nullopt);
  EXPECT_THAT(watch.round(5, 31.8),
              Optional(AllOf(HasSubstr("of round 5 is 31.8"), HasSubstr("among 24 classes has 3.178"),
                             HasSubstr("--learning-rate"), HasSubstr("--client-learning-rate"))));
  EXPECT_EQ(watch.round(6, 100), std::nullopt);
  EXPECT_NE(LossWatch(2).round(1, 7), std::nullopt) << "diverged within its first round";
}

TEST(LossWatch, WithoutClassesTheFirstRoundAloneCounts) {
  LossWatch watch(0);
  EXPECT_EQ(watch.round(1, 1e-3), std::nullopt);
  EXPECT_EQ(watch.round(2, 0.009), std::nullopt);
  EXPECT_THAT(watch.round(3, 0.011), Optional(HasSubstr("while round 1 had 0.001")));
}

TEST(LossWatch, ARoundWithoutALossSaysNothing) {
  LossWatch watch(2);
  EXPECT_EQ(watch.round(1, 1), std::nullopt);
  EXPECT_EQ(watch.round(2, std::numeric_limits<double>::quiet_NaN()), std::nullopt);
}

}  // namespace
}  // namespace pf2lora
