#include "algorithm/client_ranks.h"

#include <gtest/gtest.h>

#include "algorithm/methods.h"
#include "core/error.h"

namespace pf2lora {
namespace {

using Ranks = std::vector<int64_t>;

Ranks ranks_of(int64_t highest, int64_t clients, int64_t lowest, const std::vector<std::string>& given = {}) {
  Options options;
  options.rank = highest;
  options.clients = clients;
  ClientRankOptions own;
  own.min_rank = lowest;
  own.client_ranks = given;
  return start_ranks(options, own);
}

TEST(StartRanks, RiseLinearlyOverTheClients) {
  EXPECT_EQ(ranks_of(8, 4, 2), (Ranks{2, 4, 6, 8}));
  EXPECT_EQ(ranks_of(8, 5, 2), (Ranks{2, 4, 5, 7, 8}));  // 2, 3.5, 5, 6.5, 8
  EXPECT_EQ(ranks_of(3, 2, 3), (Ranks{3, 3}));
  EXPECT_EQ(ranks_of(8, 1, 2), (Ranks{8}));
}

TEST(StartRanks, AreThoseGivenBeginningAgainForFurtherClients) {
  EXPECT_EQ(ranks_of(8, 5, 2, {"8", "2", "5"}), (Ranks{8, 2, 5, 8, 2}));
  EXPECT_EQ(ranks_of(8, 2, 2, {"3", "4", "5"}), (Ranks{3, 4}));
}

TEST(StartRanks, RefuseWhatIsNoRankBetweenTheLimits) {
  const auto message = [](auto... arguments) -> std::string {
    try {
      ranks_of(arguments...);
    } catch (const OptionError& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_option);
      return error.what();
    }
    return "nothing was thrown";
  };
  EXPECT_EQ(message(4, 3, 5), "--min-rank 5 is above --rank 4; choose --min-rank at most --rank");
  for (const std::string bad : {"1", "9", "3.5", "x", "", " 3", "99999999999999999999"})
    EXPECT_EQ(message(8, 3, 2, std::vector<std::string>{"4", bad}),
              "--client-ranks holds '" + bad + "'; ranks are whole numbers from --min-rank 2 to --rank 8");
}

// A [3, 2] and B [2, 3] of one site, then a head of 2 x 1 and 2.
TEST(RankMask, KeepsTheFirstRowsOfAAndColumnsOfBAndTheHead) {
  const Level level({{.name = "site", .rows = 2, .columns = 2}}, 3, 1, {"A", "B"},
                    HeadShape{.classes = 2, .inputs = 1});
  const torch::Tensor mask = rank_mask(level, torch::tensor({1.0, 3.0}, torch::kFloat64));
  const torch::Tensor first =
      torch::tensor({1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 1, 1}, torch::kFloat64);
  EXPECT_TRUE(torch::equal(mask[0], first));
  EXPECT_TRUE(torch::equal(mask[1], torch::ones({16}, torch::kFloat64)));
  EXPECT_EQ(size_at_rank(level, 1), 8);  // the ones of the first row
  EXPECT_EQ(size_at_rank(level, 3), 16);
}

}  // namespace
}  // namespace pf2lora
