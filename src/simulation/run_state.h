// The whole state of a run: the common row, the clients' rows, and how many rounds are done. Random numbers
// are keyed, so nothing else goes into a checkpoint.
#pragma once
#include <functional>
#include <string>

#include "comm/communicator.h"
#include "simulation/client_store.h"
#include "simulation/placement.h"

namespace pf2lora {

struct RunState {
  int64_t round = 0;     // rounds that are done
  torch::Tensor common;  // [common layout], the same on every rank
  ClientStore clients;
  Placement placement;

  // The state before the first round.
  RunState(const Algorithm& algorithm, const Problem& problem, int64_t clients, int ranks);
};

// All ranks. Moves the rows of clients to their new owners.
void exchange(const Communicator& comm, RunState& state, const std::vector<Move>& moves, int64_t row_size);

// All ranks. Brings the row of each given client to rank 0, one at a time, and calls `take` there. An
// exception of `take` is thrown on every rank once all rows have passed.
void stream_rows(const Communicator& comm, const RunState& state, const std::vector<int64_t>& clients,
                 const std::function<void(int64_t client, const torch::Tensor& row)>& take);

// All ranks. Writes, or reads, <path>: every number of the state. `texts` are named facts that go with it
// (the options); reading hands them to `check` before anything is taken over. Throws InputError for a file
// that is damaged or belongs to other layouts.
using Texts = std::vector<std::pair<std::string, std::string>>;
void save_checkpoint(const Communicator& comm, const RunState& state, const std::string& path,
                     const Texts& texts);
void load_checkpoint(const Communicator& comm, RunState& state, const Algorithm& algorithm,
                     const std::string& path, const std::function<void(const Texts&)>& check);

}  // namespace pf2lora
