#include "adapters/parameter_layout.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <stdexcept>

namespace pf2lora {
namespace {

TEST(ParameterLayout, PutsSlicesEndToEnd) {
  ParameterLayout layout;
  EXPECT_EQ(layout.add("a", {2, 3}), 0u);
  EXPECT_EQ(layout.add("b", {4}), 1u);
  EXPECT_EQ(layout.add("empty", {0, 7}), 2u);
  EXPECT_EQ(layout.size(), 10);
  EXPECT_EQ(layout.find("a").offset, 0);
  EXPECT_EQ(layout.find("b").offset, 6);
  EXPECT_EQ(layout.find("b").size, 4);
  EXPECT_EQ(layout.find("empty").size, 0);
  EXPECT_THROW(layout.find("c"), std::out_of_range);
}

TEST(ParameterLayout, AppendsAnotherAsOneBlockUnderAPrefix) {
  ParameterLayout inner, outer;
  inner.add("a", {3});
  inner.add("b", {2, 2});
  outer.add("x", {5});
  EXPECT_EQ(outer.append(inner, "state/"), 5);
  EXPECT_EQ(outer.size(), 12);
  EXPECT_EQ(outer.find("state/b").offset, 8);
  EXPECT_EQ(outer.find("state/b").shape, (std::vector<int64_t>{2, 2}));
}

TEST(ParameterLayout, ViewSharesTheRowsOfEveryClient) {
  ParameterLayout layout;
  layout.add("a", {3});
  layout.add("b", {2, 2});
  auto rows = torch::arange(14, torch::kFloat64).view({2, 7});
  auto b = view(rows, layout.find("b"));
  EXPECT_TRUE(torch::equal(
      b, torch::tensor({{{3.0, 4.0}, {5.0, 6.0}}, {{10.0, 11.0}, {12.0, 13.0}}}, torch::kFloat64)));
  b.index_put_({1, 0, 1}, -1);
  EXPECT_EQ((rows[1][4].item<double>()), -1);
}

}  // namespace
}  // namespace pf2lora
