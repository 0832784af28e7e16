#include "native/kernels.h"

#include <gtest/gtest.h>

#include <set>

#include "native/oracle.h"

namespace pf2lora::native {
namespace {

TEST(Kernels, BestIsTheLastThatThisProcessorSupports) {
  EXPECT_EQ(this_processor(), supported_processors().back());
  EXPECT_EQ(&kernels<float>(), &kernels<float>(this_processor()));
  EXPECT_EQ(&kernels<double>(), &kernels<double>(this_processor()));
}

TEST(Kernels, EachProcessorHasItsOwnTable) {
  std::set<std::string> names;
  std::set<int64_t> panels;
  for (const Processor processor : supported_processors()) {
    names.insert(kernels<float>(processor).name);
    panels.insert(kernels<float>(processor).panel);
    EXPECT_EQ(kernels<float>(processor).panel, 2 * kernels<double>(processor).panel);
    EXPECT_EQ(kernels<double>(processor).bf16, nullptr);
    EXPECT_EQ(kernels<double>(processor).bf16x3, nullptr);
  }
  EXPECT_EQ(names.size(), supported_processors().size());
  EXPECT_EQ(panels.size(), supported_processors().size());
}

}  // namespace
}  // namespace pf2lora::native
