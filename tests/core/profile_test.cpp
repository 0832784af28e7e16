#include "core/profile.h"

#include <gtest/gtest.h>

#include <thread>

namespace pf2lora {
namespace {

TEST(Profile, RecordsNothingUnlessStarted) {
  Profile profile;
  profile.add("kind", "name", 0, 5);
  EXPECT_TRUE(profile.spans().empty() && profile.totals().empty());
}

TEST(Profile, CountsEverythingAndKeepsTheFirstSpans) {
  Profile profile;
  profile.start(2);
  for (int64_t i = 0; i < 4; ++i) profile.add("gradient", i % 2 == 0 ? "linear" : "norm", 10 * i, 10 * i + i);
  ASSERT_EQ(profile.spans().size(), 2u);
  EXPECT_STREQ(profile.spans()[1].name, "norm");
  EXPECT_EQ(profile.spans()[1].begin, 10);
  EXPECT_EQ(profile.spans()[1].end, 11);
  const Profile::Total linear = profile.totals().at({"gradient", "linear"});
  EXPECT_EQ(linear.count, 2);
  EXPECT_EQ(linear.nanoseconds, 0 + 2);
  profile.stop();
  profile.add("gradient", "linear", 0, 100);
  EXPECT_EQ(profile.totals().at({"gradient", "linear"}).count, 2);
  profile.start(1);
  EXPECT_TRUE(profile.spans().empty() && profile.totals().empty());
}

TEST(Profile, SpansNestAndLastAsLongAsTheirScope) {
  profile().start(10);
  {
    const ProfileSpan outer("test", "outer");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const ProfileSpan inner("test", "inner");
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
  profile().stop();
  const ProfileSpan late("test", "late");
  const auto& spans = profile().spans();
  ASSERT_EQ(spans.size(), 2u);
  const Profile::Span &inner = spans[0], &outer = spans[1];
  EXPECT_STREQ(inner.name, "inner");
  EXPECT_GE(inner.end - inner.begin, 3000000);
  EXPECT_GE(inner.begin - outer.begin, 2000000);
  EXPECT_LE(inner.end, outer.end);
}

}  // namespace
}  // namespace pf2lora
