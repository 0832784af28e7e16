// Groups that do not depend on ranks, and a placement that balances them and moves few rows.
#include "simulation/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>

namespace pf2lora {
namespace {

std::vector<int64_t> first_clients(int64_t count) {
  std::vector<int64_t> clients(static_cast<size_t>(count));
  std::iota(clients.begin(), clients.end(), 0);
  return clients;
}

double work_of(int64_t client) {
  return 1 + static_cast<double>(client * 7 % 5);
}

TEST(Groups, AreCutInOrderAndCarryTheWorkOfTheirClients) {
  const auto groups = make_groups({1, 3, 4, 8, 9}, 2, work_of);
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].clients, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(groups[1].clients, (std::vector<int64_t>{4, 8}));
  EXPECT_EQ(groups[2].clients, (std::vector<int64_t>{9}));
  EXPECT_EQ(groups[1].work, work_of(4) + work_of(8));
  EXPECT_TRUE(make_groups({}, 2, work_of).empty());
}

TEST(Placement, RowsLiveOnClientModRanksBeforeTraining) {
  const Placement placement(7, 3);
  for (int64_t client = 0; client < 7; ++client) {
    EXPECT_EQ(placement.owner(client), client % 3);
    EXPECT_FALSE(placement.has_row(client));
  }
}

TEST(Placement, TheLongestGroupGoesFirstToTheLeastLoadedRank) {
  // Works 5, 4, 3, 3 on two ranks: 5 + 3 and 4 + 3.
  std::vector<Group> groups = {{{0}, 3, 0}, {{1}, 5, 0}, {{2}, 4, 0}, {{3}, 3, 0}};
  Placement(4, 2).place(groups, Placement::Use::trains);
  EXPECT_NE(groups[1].rank, groups[2].rank);
  EXPECT_NE(groups[0].rank, groups[3].rank);
  EXPECT_EQ(groups[0].rank, groups[2].rank);
}

TEST(Placement, FullParticipationMovesNothing) {
  for (int ranks : {1, 2, 3, 4}) {
    for (int64_t lockstep : {1, 2, 3}) {
      Placement placement(10, ranks);
      for (int round = 0; round < 4; ++round) {
        auto groups = make_groups(first_clients(10), lockstep, work_of);
        EXPECT_TRUE(placement.place(groups, Placement::Use::trains).empty())
            << ranks << " ranks, round " << round;
      }
    }
  }
}

TEST(Placement, EveryRowIsWhereItsClientWasLastTrainedAndMovesLeadThere) {
  std::mt19937_64 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    const int64_t clients = 1 + static_cast<int64_t>(random() % 12);
    const int ranks = 1 + static_cast<int>(random() % 5);
    const int64_t lockstep = 1 + static_cast<int64_t>(random() % 3);
    Placement placement(clients, ranks);
    std::map<int64_t, int> where;  // rows that exist, followed by the moves alone
    for (int round = 0; round < 6; ++round) {
      std::vector<int64_t> cohort;
      for (int64_t client : first_clients(clients)) {
        if (random() % 2 == 0) cohort.push_back(client);
      }
      auto groups = make_groups(cohort, lockstep, work_of);
      const auto moves = placement.place(groups, Placement::Use::trains);
      std::set<int64_t> moved;
      for (const Move& move : moves) {
        EXPECT_TRUE(moved.insert(move.client).second) << "moved twice in one round";
        EXPECT_NE(move.from, move.to);
        ASSERT_TRUE(where.contains(move.client)) << "a row that does not exist was moved";
        EXPECT_EQ(where[move.client], move.from);
        where[move.client] = move.to;
      }
      std::vector<double> load(static_cast<size_t>(ranks), 0.0);
      double all = 0, longest = 0;
      for (const Group& group : groups) {
        ASSERT_GE(group.rank, 0);
        ASSERT_LT(group.rank, ranks);
        load[static_cast<size_t>(group.rank)] += group.work;
        all += group.work;
        longest = std::max(longest, group.work);
        for (int64_t client : group.clients) {
          where.emplace(client, group.rank);  // made where it trains
          EXPECT_EQ(where[client], group.rank);
          EXPECT_EQ(placement.owner(client), group.rank);
          EXPECT_TRUE(placement.has_row(client));
        }
      }
      for (const auto& [client, rank] : where) EXPECT_EQ(placement.owner(client), rank);
      // Graham's bound for any list that goes to the least loaded rank.
      EXPECT_LE(*std::max_element(load.begin(), load.end()), all / ranks + longest + 1e-9);
    }
  }
}

}  // namespace
}  // namespace pf2lora
