// What the files of this folder share: mpi.h, checked calls, messages cut to the size that one call takes.
#pragma once
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace pf2lora {

struct Communicator::State {
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Comm machine = MPI_COMM_NULL;  // the ranks of this one's machine
  int rank = 0;
  int size = 1;
  int local_rank = 0;
  int local_size = 1;
  int local_cores = 1;
  std::vector<std::string> hosts;  // [size]

  ~State();
};

// Throws Error (internal_error) unless an MPI call returned success.
void check_mpi(int result, const char* call);

// Calls piece(begin, count) for [0, total) in pieces of at most `limit`.
template <typename Piece>
void in_pieces(size_t total, size_t limit, const Piece& piece) {
  for (size_t begin = 0; begin < total; begin += limit) piece(begin, std::min(limit, total - begin));
}

// Messages on their way between pairs of ranks. An empty row still travels as one empty message, so that both
// ends always have the same number of messages if they have the same number of bytes.
class Messages {
 public:
  Messages(MPI_Comm comm, int tag, size_t limit) : comm_(comm), tag_(tag), limit_(limit) {}

  void send(std::span<const std::byte> data, int to);
  void receive(std::span<std::byte> data, int from);

  // Until all of them left and arrived. Throws Error if one arrived with another length than expected.
  void wait();

 private:
  static constexpr int sending = -1;

  MPI_Comm comm_;
  int tag_;
  size_t limit_;
  std::vector<MPI_Request> requests_;
  std::vector<int> expected_bytes_;  // a request; or `sending`
};

}  // namespace pf2lora
