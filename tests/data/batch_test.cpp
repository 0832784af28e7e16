#include "data/batch.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace pf2lora {
namespace {

using Rows = std::vector<std::vector<int64_t>>;

// Four rows of 2, 0, 3 and 1 tokens; a row's tokens start with its number.
const std::vector<int32_t> kTokens = {0, 10, 20, 21, 22, 30};
const std::vector<int64_t> kOffsets = {0, 2, 2, 5, 6};
const std::vector<int32_t> kLabels = {7, 6, 5, 4};

TEST(Pack, LaysTokensEndToEndClientAfterClient) {
  const std::vector<int64_t> clients = {4, 2, 9};
  const Batch batch = pack(clients, Rows{{3, 2}, {}, {0, 1, 3}}, kTokens, kOffsets, kLabels);
  EXPECT_EQ(batch.clients, clients);
  EXPECT_EQ(batch.examples, (std::vector<int64_t>{3, 2, 0, 1, 3}));
  EXPECT_EQ(batch.client_offsets, (std::vector<int64_t>{0, 2, 2, 5}));
  EXPECT_EQ(batch.token_offsets, (std::vector<int64_t>{0, 1, 4, 6, 6, 7}));
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{30, 20, 21, 22, 0, 10, 30}));
  EXPECT_EQ(batch.labels, (std::vector<int32_t>{4, 5, 7, 6, 4}));
}

TEST(TakeClient, IsAsIfTheClientWerePackedAlone) {
  const std::vector<int64_t> clients = {4, 2, 9}, last = {9};
  const Batch batch = pack(clients, Rows{{3, 2}, {}, {0, 1, 3}}, kTokens, kOffsets, kLabels);
  const Batch taken = take_client(batch, 2), alone = pack(last, Rows{{0, 1, 3}}, kTokens, kOffsets, kLabels);
  EXPECT_EQ(taken.clients, alone.clients);
  EXPECT_EQ(taken.examples, alone.examples);
  EXPECT_EQ(taken.client_offsets, alone.client_offsets);
  EXPECT_EQ(taken.token_offsets, alone.token_offsets);
  EXPECT_EQ(taken.tokens, alone.tokens);
  EXPECT_EQ(taken.labels, alone.labels);
}

TEST(Pack, OfNothingIsEmptyWithClosedOffsets) {
  const Batch batch = pack({}, {}, kTokens, kOffsets, kLabels);
  EXPECT_TRUE(batch.examples.empty());
  EXPECT_EQ(batch.client_offsets, (std::vector<int64_t>{0}));
  EXPECT_EQ(batch.token_offsets, (std::vector<int64_t>{0}));
}

TEST(Pack, RefusesRowsAndListsThatDoNotFit) {
  const std::vector<int64_t> one = {0};
  EXPECT_THROW(pack(one, Rows{{4}}, kTokens, kOffsets, kLabels), std::invalid_argument);
  EXPECT_THROW(pack(one, Rows{{-1}}, kTokens, kOffsets, kLabels), std::invalid_argument);
  EXPECT_THROW(pack(one, Rows{{0}, {1}}, kTokens, kOffsets, kLabels), std::invalid_argument);
  EXPECT_THROW(pack(one, Rows{{0}}, kTokens, std::vector<int64_t>{0, 2}, kLabels), std::invalid_argument);
  EXPECT_THROW(pack(one, Rows{{3}}, std::vector<int32_t>{1, 2}, kOffsets, kLabels), std::invalid_argument);
}

}  // namespace
}  // namespace pf2lora
