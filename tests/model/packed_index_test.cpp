#include "model/packed_index.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "adapters/random_tensors.h"

namespace pf2lora {
namespace {

// Client 4 holds examples of 2 and 3 tokens, client 1 one of 1 token.
const Batch kBatch{.clients = {4, 1},
                   .examples = {10, 11, 12},
                   .client_offsets = {0, 2, 3},
                   .token_offsets = {0, 2, 5, 6},
                   .tokens = {7, 8, 9, 10, 11, 12},
                   .labels = {2, 0, 1}};

TEST(PackedIndex, SaysWhereEveryTokenStands) {
  const PackedIndex index = index_batch(kBatch, 2, torch::kFloat64);
  EXPECT_EQ(index.examples, 3);
  EXPECT_TRUE(torch::equal(index.tokens, integers({7, 8, 9, 10, 11, 12})));
  EXPECT_TRUE(torch::equal(index.positions, integers({0, 1, 0, 1, 2, 0})));
  EXPECT_TRUE(torch::equal(index.first, integers({0, 2, 5})));
  EXPECT_TRUE(torch::equal(index.example, integers({0, 0, 1, 1, 1, 2})));
  EXPECT_TRUE(torch::equal(index.client, integers({0, 0, 1})));
  EXPECT_TRUE(torch::equal(index.labels, integers({2, 0, 1})));
  EXPECT_EQ(index.client_tokens, (std::vector<int64_t>{5, 1}));
  EXPECT_EQ(index.client_examples, (std::vector<int64_t>{2, 1}));
  EXPECT_TRUE(torch::equal(index.share, torch::tensor({{0.5, 0.5, 0.0}, {0.0, 0.0, 1.0}}, torch::kFloat64)));
  EXPECT_FALSE(index.sources.defined());
}

TEST(PackedIndex, PutsPromptsAfterFirstTokens) {
  const PackedIndex index = index_batch(kBatch, 2, torch::kFloat64, 2);
  // Prompt vectors are numbered on from the 6 tokens.
  EXPECT_TRUE(torch::equal(index.sources, integers({0, 6, 7, 1, 2, 8, 9, 3, 4, 5, 10, 11})));
  EXPECT_TRUE(torch::equal(index.token_rows, integers({0, 3, 4, 7, 8, 9})));
  EXPECT_TRUE(torch::equal(index.tokens, integers({7, 8, 9, 10, 11, 12})));
  EXPECT_TRUE(torch::equal(index.positions, integers({0, 1, 0, 1, 2, 0})));
  EXPECT_TRUE(torch::equal(index.first, integers({0, 4, 9})));
  EXPECT_TRUE(torch::equal(index.example, integers({0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2})));
  EXPECT_EQ(index.client_tokens, (std::vector<int64_t>{9, 3}));
  EXPECT_EQ(index.attention.tokens.size(0), 12 * 2);
}

}  // namespace
}  // namespace pf2lora
