// Blocks that come and go: none overlap, what they hold stays, and a pattern of use comes to need no more
// memory.
#include "native/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

namespace pf2lora::native {
namespace {

struct Block {
  std::byte* data;
  size_t bytes;
  std::byte mark;
};

TEST(Arena, BlocksThatComeAndGoAtRandomNeverOverlap) {
  Arena arena;
  std::mt19937 random(1);
  std::vector<Block> blocks;
  for (int i = 0; i < 20000; ++i) {
    if (blocks.size() < 200 && (blocks.empty() || random() % 2 == 0)) {
      const size_t bytes = random() % (random() % 50 == 0 ? 3000000 : 3000);
      const Block block{arena.take(bytes), bytes, std::byte(random())};
      ASSERT_EQ(reinterpret_cast<uintptr_t>(block.data) % Arena::kAlignment, 0u);
      std::fill_n(block.data, std::min<size_t>(bytes, 5000), block.mark);
      if (bytes > 0) block.data[bytes - 1] = block.mark;
      blocks.push_back(block);
    } else {
      std::swap(blocks[random() % blocks.size()], blocks.back());
      const Block block = blocks.back();
      blocks.pop_back();
      const auto is_mark = [&](std::byte b) { return b == block.mark; };
      ASSERT_TRUE(std::all_of(block.data, block.data + std::min<size_t>(block.bytes, 5000), is_mark));
      ASSERT_TRUE(block.bytes == 0 || is_mark(block.data[block.bytes - 1]));
      arena.give_back(block.data, block.bytes);
    }
  }
  for (const Block& block : blocks) arena.give_back(block.data, block.bytes);
  EXPECT_LT(arena.reserved(), size_t{400} << 20);
}

TEST(Arena, SeveralChunksBecomeOneThatHoldsTheSamePatternAgain) {
  Arena arena;
  const auto use = [&](size_t bytes) {
    std::vector<std::byte*> blocks;
    for (int i = 0; i < 10; ++i) blocks.push_back(arena.take(bytes));
    for (std::byte* block : blocks) arena.give_back(block, bytes);
    return arena.reserved();
  };
  EXPECT_EQ(use(3 << 20), 0u);  // several chunks are gone
  const size_t ten = use(3 << 20);
  EXPECT_GE(ten, size_t{30} << 20);
  EXPECT_EQ(use(3 << 20), ten);
  EXPECT_EQ(use(2 << 20), ten);
  std::byte* all = arena.take(ten);  // all free neighbours have joined
  EXPECT_EQ(arena.reserved(), ten);
  arena.give_back(all, ten);
}

}  // namespace
}  // namespace pf2lora::native
