#include "model/prefix_cache.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace pf2lora {
namespace {

using Examples = std::vector<int64_t>;

TEST(PrefixCache, KeepsWhatFitsAndComputesTheRestAgain) {
  PrefixCache cache(3 * 8);
  Examples computed;
  const auto get = [&](const Examples& examples, int64_t size) {
    const auto states = cache.get(examples, [&](const std::vector<size_t>& places) {
      std::vector<torch::Tensor> made;
      for (size_t place : places) {
        computed.push_back(examples[place]);
        made.push_back(torch::full({size}, double(examples[place]), torch::kFloat64));
      }
      return made;
    });
    Examples found;
    for (const torch::Tensor& state : states) found.push_back(state[size - 1].item<int64_t>());
    return found;
  };
  EXPECT_EQ(get({5, 6}, 2), (Examples{5, 6}));  // 16 + 16 bytes are too many
  EXPECT_EQ(get({7}, 1), Examples{7});
  EXPECT_EQ(cache.bytes(), 24);
  EXPECT_EQ(computed, (Examples{5, 6, 7}));
  EXPECT_EQ(get({7, 5}, 1), (Examples{7, 5}));
  EXPECT_EQ(computed.size(), 3u);
  EXPECT_EQ(get({5, 6, 5}, 2), (Examples{5, 6, 5}));
  EXPECT_EQ(computed, (Examples{5, 6, 7, 6}));
}

}  // namespace
}  // namespace pf2lora
