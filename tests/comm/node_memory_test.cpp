// One copy of a block on a machine.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include "comm/communicator.h"
#include "mpi_test.h"

namespace pf2lora {
namespace {

constexpr size_t kBytes = 5'000'001;

std::byte byte_at(size_t i) {
  return std::byte((i * i + 7 * i) % 251);
}

void fill_all(std::byte* block) {
  for (size_t i = 0; i < kBytes; ++i) block[i] = byte_at(i);
}

// The inode of the file that the block is mapped from, 0 for memory of this process alone (proc(5)).
uint64_t inode_under(const void* block) {
  std::ifstream maps("/proc/self/maps");
  const auto address = reinterpret_cast<uintptr_t>(block);
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin = 0, end = 0;
    char rights[8], device[16];
    unsigned long offset = 0, inode = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %7s %lx %15s %lu", &begin, &end, rights, &offset, device,
                    &inode) == 6 &&
        begin <= address && address < end)
      return inode;
  }
  return 0;
}

TEST(NodeMemory, OneRankOfAMachineFillsAndAllReadTheSameFile) {
  const Communicator& comm = communicator();
  int64_t calls = 0;
  const auto block = comm.filled_on_node(kBytes, [&](std::byte* to) {
    ++calls;
    fill_all(to);
  });
  for (size_t i = 0; i < kBytes; ++i) ASSERT_EQ(block.get()[i], byte_at(i)) << i;
  EXPECT_EQ(calls, comm.local_rank() == 0 ? 1 : 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block.get()) % 64, 0u);
  const uint64_t inode = inode_under(block.get());
  EXPECT_EQ(inode != 0, comm.local_size() > 1);
  const auto inodes = comm.all_gather(std::span(&inode, 1));
  for (int rank = 0; rank < comm.size(); ++rank) {
    const bool here = comm.hosts()[size_t(rank)] == comm.host_name();
    EXPECT_TRUE(!here || inodes[size_t(rank)][0] == inode) << rank;
  }
}

TEST(NodeMemory, TwoBlocksAreApartAndOutliveEachOther) {
  const Communicator& comm = communicator();
  auto first = comm.filled_on_node(3, [](std::byte* to) { std::fill_n(to, 3, std::byte{1}); });
  const auto second = comm.filled_on_node(3, [](std::byte* to) { std::fill_n(to, 3, std::byte{2}); });
  EXPECT_EQ(first.get()[2], std::byte{1});
  first.reset();
  EXPECT_EQ(second.get()[2], std::byte{2});
  comm.filled_on_node(0, [](std::byte*) {});
}

TEST(NodeMemory, AFailureToFillReachesEveryRank) {
  const Communicator& comm = communicator();
  try {
    comm.filled_on_node(100, [](std::byte*) { throw InputError("weights cannot be read"); });
    FAIL() << "nothing was thrown";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_input);
    EXPECT_EQ(std::string(error.what()).rfind("weights cannot be read", 0), 0u);
  }
}

}  // namespace
}  // namespace pf2lora
