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
  const Batch batch = pack(clients, Rows{{3, 2}, {}, {0, 1, 3}}, {kTokens, kOffsets, kLabels});
  EXPECT_EQ(batch.clients, clients);
  EXPECT_EQ(batch.examples, (std::vector<int64_t>{3, 2, 0, 1, 3}));
  EXPECT_EQ(batch.client_offsets, (std::vector<int64_t>{0, 2, 2, 5}));
  EXPECT_EQ(batch.token_offsets, (std::vector<int64_t>{0, 1, 4, 6, 6, 7}));
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{30, 20, 21, 22, 0, 10, 30}));
  EXPECT_EQ(batch.labels, (std::vector<int32_t>{4, 5, 7, 6, 4}));
}

TEST(Pack, CutsTheColumnsOfATaskAsItCutsTokens) {
  const std::vector<int8_t> types = {0, 1, 0, 0, 1, 1};
  const std::vector<float> values = {0.5F, 1, -2, 3};
  const std::vector<int32_t> spans = {0, 1, 0, 0, 1, 2, 0, 0}, targets = {1, 1, 2, 1};
  const std::vector<int64_t> client = {0};
  const Batch batch =
      pack(client, Rows{{2, 0}}, {kTokens, kOffsets, kLabels, types, values, spans, targets});
  EXPECT_EQ(batch.token_types, (std::vector<int8_t>{0, 0, 1, 0, 1}));
  EXPECT_EQ(batch.values, (std::vector<float>{-2, 0.5F}));
  EXPECT_EQ(batch.spans, (std::vector<int32_t>{1, 2, 0, 1}));
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{2, 1}));
  const std::vector<size_t> second = {1};
  const Batch taken = take_examples(batch, second);
  EXPECT_EQ(taken.examples, (std::vector<int64_t>{0}));
  EXPECT_EQ(taken.tokens, (std::vector<int32_t>{0, 10}));
  EXPECT_EQ(taken.token_types, (std::vector<int8_t>{0, 1}));
  EXPECT_EQ(taken.spans, (std::vector<int32_t>{0, 1}));
}

TEST(TakeClient, IsAsIfTheClientWerePackedAlone) {
  const std::vector<int64_t> clients = {4, 2, 9}, last = {9};
  const ExampleColumns dataset{kTokens, kOffsets, kLabels};
  const Batch batch = pack(clients, Rows{{3, 2}, {}, {0, 1, 3}}, dataset);
  const Batch taken = take_client(batch, 2), alone = pack(last, Rows{{0, 1, 3}}, dataset);
  EXPECT_EQ(taken.clients, alone.clients);
  EXPECT_EQ(taken.examples, alone.examples);
  EXPECT_EQ(taken.client_offsets, alone.client_offsets);
  EXPECT_EQ(taken.token_offsets, alone.token_offsets);
  EXPECT_EQ(taken.tokens, alone.tokens);
  EXPECT_EQ(taken.labels, alone.labels);
}

TEST(Pack, OfNothingIsEmptyWithClosedOffsets) {
  const Batch batch = pack({}, {}, {kTokens, kOffsets, kLabels});
  EXPECT_TRUE(batch.examples.empty());
  EXPECT_EQ(batch.client_offsets, (std::vector<int64_t>{0}));
  EXPECT_EQ(batch.token_offsets, (std::vector<int64_t>{0}));
}

TEST(Pack, RefusesRowsAndListsThatDoNotFit) {
  const std::vector<int64_t> one = {0};
  const ExampleColumns dataset{kTokens, kOffsets, kLabels};
  EXPECT_THROW(pack(one, Rows{{4}}, dataset), std::invalid_argument);
  EXPECT_THROW(pack(one, Rows{{-1}}, dataset), std::invalid_argument);
  EXPECT_THROW(pack(one, Rows{{0}, {1}}, dataset), std::invalid_argument);
  const std::vector<int64_t> two = {0, 2};
  ExampleColumns wrong = dataset;
  wrong.offsets = two;
  EXPECT_THROW(pack(one, Rows{{0}}, wrong), std::invalid_argument);
  const std::vector<int32_t> few = {1, 2};
  wrong = dataset;
  wrong.tokens = few;
  EXPECT_THROW(pack(one, Rows{{3}}, wrong), std::invalid_argument);
}

TEST(TakePrompts, LeavesTheTokensBeforeEachTarget) {
  const std::vector<int32_t> tokens = {5, 6, 7, 8, 9, 1}, targets = {2, 1}, labels = {0, 0};
  const std::vector<int64_t> offsets = {0, 3, 6}, clients = {4, 7};
  const Batch batch = pack(clients, Rows{{1}, {0}},
                           {.tokens = tokens, .offsets = offsets, .labels = labels, .targets = targets});
  const Batch prompts = take_prompts(batch);
  EXPECT_EQ(prompts.tokens, (std::vector<int32_t>{8, 5, 6}));
  EXPECT_EQ(prompts.token_offsets, (std::vector<int64_t>{0, 1, 3}));
  EXPECT_EQ(prompts.examples, batch.examples);
  EXPECT_EQ(prompts.clients, batch.clients);
  EXPECT_EQ(prompts.client_offsets, batch.client_offsets);
}

}  // namespace
}  // namespace pf2lora
