#include "model/prefix_cache.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace pf2lora {
namespace {

TEST(PrefixCache, KeepsWhatFitsAndComputesTheRestAgain) {
  PrefixCache cache(3 * 8);
  int computed = 0;
  const auto get = [&](int64_t example, int64_t size) {
    return cache.get(example, [&] {
      ++computed;
      return torch::full({size}, double(example), torch::kFloat64);
    });
  };
  EXPECT_EQ(get(5, 2)[1].item<double>(), 5);
  EXPECT_EQ(get(6, 2)[1].item<double>(), 6);  // 16 + 16 bytes are too many
  EXPECT_EQ(get(7, 1)[0].item<double>(), 7);
  EXPECT_EQ(cache.bytes(), 24);
  EXPECT_EQ(computed, 3);
  EXPECT_EQ(get(5, 2)[0].item<double>(), 5);
  EXPECT_EQ(get(7, 1)[0].item<double>(), 7);
  EXPECT_EQ(computed, 3);
  EXPECT_EQ(get(6, 2)[0].item<double>(), 6);
  EXPECT_EQ(computed, 4);
}

}  // namespace
}  // namespace pf2lora
