#include "comm/communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "core/exact_sum.h"
#include "mpi_test.h"

namespace pf2lora {
namespace {

// What this rank and every other can compute: number i of rank `rank`'s row.
float row_number(int rank, size_t i) {
  std::mt19937 generator(static_cast<unsigned>(rank * 7919 + static_cast<int>(i)));
  return std::ldexp(static_cast<float>(generator()) / 0x1p32f - 0.5f, static_cast<int>(i % 40) - 20);
}

std::vector<float> row_of(int rank, size_t count) {
  std::vector<float> row(count);
  for (size_t i = 0; i < count; ++i) row[i] = row_number(rank, i);
  return row;
}

TEST(Communicator, RanksHostsAndLibraryAreKnown) {
  const Communicator& comm = communicator();
  EXPECT_GE(comm.rank(), 0);
  EXPECT_LT(comm.rank(), comm.size());
  EXPECT_EQ(comm.all_reduce_max(comm.rank()), comm.size() - 1);
  ASSERT_EQ(comm.hosts().size(), static_cast<size_t>(comm.size()));
  EXPECT_EQ(comm.hosts()[static_cast<size_t>(comm.rank())], comm.host_name());
  EXPECT_FALSE(comm.host_name().empty());
  EXPECT_LT(comm.local_rank(), comm.local_size());
  EXPECT_EQ(std::count(comm.hosts().begin(), comm.hosts().end(), comm.host_name()), comm.local_size());
  EXPECT_NE(mpi_library_version().find("MPI"), std::string::npos);
  EXPECT_EQ(mpi_library_version().find('\n'), std::string::npos);
}

TEST(Communicator, LeavesNetworksOutOnOneMachine) {
  const char* ranks = std::getenv("OMPI_COMM_WORLD_SIZE");
  if (ranks == nullptr || std::to_string(communicator().local_size()) != ranks) GTEST_SKIP();
  EXPECT_STREQ(std::getenv("OMPI_MCA_pml"), "ob1");
}

TEST(Communicator, ReducesIntegersExactlyAndAgreesOnStop) {
  const Communicator& comm = communicator();
  const int64_t large = int64_t{1} << 60;  // beyond what a double holds
  EXPECT_EQ(comm.all_reduce_max(-large - comm.rank()), -large);
  EXPECT_EQ(comm.all_reduce_max(large + comm.rank()), large + comm.size() - 1);
  EXPECT_FALSE(comm.agree(false));
  for (int rank = 0; rank < comm.size(); ++rank) EXPECT_TRUE(comm.agree(comm.rank() == rank));
}

TEST(Communicator, BroadcastsTextVectorsAndSpansFromAnyRoot) {
  for (const size_t limit : {size_t{8}, size_t{1} << 30}) {
    const Communicator comm = communicator().with_message_limit(limit);
    for (int root = 0; root < comm.size(); ++root) {
      const bool mine = comm.rank() == root;
      std::string text = mine ? "from rank " + std::to_string(root) : "something else that is longer than it";
      comm.broadcast(text, root);
      EXPECT_EQ(text, "from rank " + std::to_string(root));

      std::vector<double> values = mine ? std::vector<double>{1.5, -2, 3e300} : std::vector<double>(7);
      comm.broadcast(values, root);
      EXPECT_EQ(values, (std::vector<double>{1.5, -2, 3e300}));

      std::vector<int32_t> numbers(1000, mine ? root + 1 : 0);
      comm.broadcast(std::span(numbers).subspan(1), root);
      EXPECT_EQ(numbers[0], mine ? root + 1 : 0);
      EXPECT_EQ(std::count(numbers.begin() + 1, numbers.end(), root + 1), 999);

      std::string empty = mine ? "" : "full";
      comm.broadcast(empty, root);
      EXPECT_EQ(empty, "");
    }
  }
}

TEST(Communicator, AllReducedSumHasTheBitsOfOneAccumulator) {
  constexpr size_t numbers = 5003;
  ExactSum expected(numbers);
  for (int rank = 0; rank < communicator().size(); ++rank)
    expected.add(0, std::span<const float>(row_of(rank, numbers)), 1.0 / (rank + 3));
  for (const size_t limit :
       {size_t{8}, size_t{1000}, size_t{1} << 30}) {  // 1000 cuts inside and across the limbs
    const Communicator comm = communicator().with_message_limit(limit);
    ExactSum sum(numbers);
    sum.add(0, std::span<const float>(row_of(comm.rank(), numbers)), 1.0 / (comm.rank() + 3));
    comm.all_reduce(sum);
    EXPECT_TRUE(std::ranges::equal(sum.limbs(), expected.limbs())) << "limit " << limit;
  }
}

TEST(Communicator, TooManyTermsOverAllRanksFailOnAllOfThem) {
  const Communicator& comm = communicator();
  ExactSum sum(1);
  const double one = 1;
  const int64_t share = ExactSum::max_terms / comm.size();
  for (int64_t k = 0; k < share; ++k) sum.add(0, std::span<const double>(&one, 1), 1.0);
  ExactSum full = sum;
  comm.all_reduce(full);
  EXPECT_EQ(full.value(0), 0x1p19);
  if (comm.rank() == comm.size() - 1) sum.limbs().back() += 1;  // one more on one rank only
  try {
    comm.all_reduce(sum);
    ADD_FAILURE() << "terms beyond the limit were summed";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), ExitCode::numerical_failure);
  }
}

TEST(Communicator, GathersRowsOfAnyLengthByRank) {
  for (const size_t limit : {size_t{8}, size_t{1} << 30}) {
    const Communicator comm = communicator().with_message_limit(limit);
    // Rank 0 has nothing, rank 1 one number, ...
    const std::vector<double> mine(static_cast<size_t>(comm.rank()), comm.rank() + 0.5);
    const auto rows = comm.gather(std::span<const double>(mine));
    const auto texts = comm.gather(std::string(static_cast<size_t>(comm.rank()) * 20, 'x'));
    if (comm.is_root()) {
      ASSERT_EQ(rows.size(), static_cast<size_t>(comm.size()));
      ASSERT_EQ(texts.size(), static_cast<size_t>(comm.size()));
      for (size_t rank = 0; rank < rows.size(); ++rank) {
        EXPECT_EQ(rows[rank], std::vector<double>(rank, static_cast<double>(rank) + 0.5));
        EXPECT_EQ(texts[rank], std::string(rank * 20, 'x'));
      }
    } else {
      EXPECT_TRUE(rows.empty());
      EXPECT_TRUE(texts.empty());
    }
    const auto everywhere = comm.all_gather(std::span<const double>(mine));
    ASSERT_EQ(everywhere.size(), static_cast<size_t>(comm.size()));
    for (size_t rank = 0; rank < everywhere.size(); ++rank)
      EXPECT_EQ(everywhere[rank], std::vector<double>(rank, static_cast<double>(rank) + 0.5));
    const auto names = comm.all_gather("rank " + std::to_string(comm.rank()));
    for (size_t rank = 0; rank < names.size(); ++rank) EXPECT_EQ(names[rank], "rank " + std::to_string(rank));
  }
}

TEST(Communicator, PairsPassMessagesInTheOrderSent) {
  for (const size_t limit : {size_t{9}, size_t{1} << 30}) {
    const Communicator comm = communicator().with_message_limit(limit);
    std::vector<std::byte> token{std::byte{1}};
    if (comm.size() == 1) break;
    // Around the ring: each rank adds its number and passes it on, with an empty message behind it.
    if (comm.rank() != 0) {
      token = comm.receive_bytes(comm.rank() - 1);
      EXPECT_TRUE(comm.receive_bytes(comm.rank() - 1).empty());
      token.resize(token.size() + 100, static_cast<std::byte>(comm.rank()));
    }
    const int next = (comm.rank() + 1) % comm.size();
    comm.send_bytes(token, next);
    comm.send_bytes({}, next);
    if (comm.rank() == 0) {
      token = comm.receive_bytes(comm.size() - 1);
      EXPECT_TRUE(comm.receive_bytes(comm.size() - 1).empty());
      ASSERT_EQ(token.size(), 1u + 100u * static_cast<size_t>(comm.size() - 1));
      for (size_t i = 1; i < token.size(); ++i)
        EXPECT_EQ(token[i], static_cast<std::byte>((i - 1) / 100 + 1));
    }
  }
}

TEST(Communicator, ARankDoesNotSendToItselfOrNobody) {
  const Communicator& comm = communicator();
  EXPECT_THROW(comm.send_bytes({}, comm.rank()), Error);
  EXPECT_THROW(comm.receive_bytes(comm.size()), Error);
  EXPECT_THROW(comm.with_message_limit(7), Error);
}

// Rows of `bytes` bytes, one for each of `items`, from a random rank to a random rank; checks what arrives.
void exchange_random_rows(const Communicator& comm, unsigned seed, int64_t items, size_t bytes) {
  std::mt19937 generator(seed);
  const auto letter = [](int64_t item, size_t i) {
    return static_cast<std::byte>((item * 31 + i * 7) % 251);
  };
  std::vector<Transfer> transfers;
  std::vector<std::vector<std::byte>> rows(static_cast<size_t>(items));
  for (int64_t item = 0; item < items; ++item) {
    const int from = static_cast<int>(generator() % static_cast<unsigned>(comm.size()));
    const int to = static_cast<int>(generator() % static_cast<unsigned>(comm.size()));
    const size_t length = bytes + static_cast<size_t>(item % 3);
    auto& row = rows[static_cast<size_t>(item)];
    if (from == comm.rank()) {
      row.resize(length);
      for (size_t i = 0; i < length; ++i) row[i] = letter(item, i);
    } else if (to == comm.rank()) {
      row.resize(length);
    }
    transfers.push_back({item, from, to, row});
  }
  comm.exchange(transfers);
  for (const Transfer& transfer : transfers) {
    if (transfer.to != comm.rank()) continue;
    size_t wrong = 0;
    for (size_t i = 0; i < transfer.data.size(); ++i) wrong += transfer.data[i] != letter(transfer.item, i);
    EXPECT_EQ(wrong, 0u) << "item " << transfer.item << " of seed " << seed;
  }
}

TEST(Exchange, RowsArriveWhereTheyWereSent) {
  for (unsigned seed = 0; seed < 20; ++seed) exchange_random_rows(communicator(), seed, seed * 5, 1000);
}

TEST(Exchange, EmptyRowsAndLongListsArrive) {
  exchange_random_rows(communicator(), 1, 30, 0);
  exchange_random_rows(communicator(), 2, 5000, 3);
}

TEST(Exchange, LargeRowsInBothDirectionsDoNotBlock) {
  exchange_random_rows(communicator(), 3, 12, (size_t{1} << 22) + 5);
}

TEST(Exchange, RowsLongerThanAMessageAreCut) {
  exchange_random_rows(communicator().with_message_limit(64), 4, 40, 1000);
  exchange_random_rows(communicator().with_message_limit(64), 5, 9, 64 * 3);
}

TEST(Exchange, ARowShorterThanItsPlaceIsNoticedWhereItArrives) {
  const Communicator& comm = communicator();
  if (comm.size() == 1) return;
  std::vector<std::byte> row(comm.rank() == 0 ? 4 : comm.rank() == 1 ? 8 : 0);
  const std::vector<Transfer> transfers{{1, 0, 1, row}};
  if (comm.rank() == 1) {
    EXPECT_THROW(comm.exchange(transfers), Error);
  } else {
    EXPECT_NO_THROW(comm.exchange(transfers));
  }
}

TEST(Exchange, RanksThatDisagreeAboutTheListAllThrow) {
  const Communicator& comm = communicator();
  if (comm.size() == 1) return;
  const int64_t item = comm.rank() == 1 ? 8 : 7;
  const std::vector<Transfer> transfers{{item, 0, 0, {}}};
  EXPECT_THROW(comm.exchange(transfers), AgreedError);
}

TEST(Exchange, AListThatIsWrongOnOneRankThrowsOnAll) {
  const Communicator& comm = communicator();
  std::vector<std::byte> row(4);
  std::vector<Transfer> transfers{{1, 0, comm.size(), {}}};
  EXPECT_THROW(comm.exchange(transfers), AgreedError);
  if (comm.size() < 2) return;
  transfers = {{1, 0, 0, comm.rank() == 1 ? std::span(row) : std::span<std::byte>()}};
  try {
    comm.exchange(transfers);
    ADD_FAILURE() << "a rank without a part gave data";
  } catch (const AgreedError& error) {
    EXPECT_NE(std::string(error.what()).find("(rank 1)"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace pf2lora
