#include "simulation/run_state.h"

#include <torch/types.h>

#include <optional>

#include "io/checkpoint.h"

namespace pf2lora {
namespace {

template <class Call>
void with_type(const torch::Tensor& tensor, Call call) {
  if (tensor.scalar_type() == torch::kFloat64)
    call(double{});
  else
    call(float{});
}

template <class T>
std::span<const T> values(const torch::Tensor& row) {
  return {row.data_ptr<T>(), size_t(row.numel())};
}

std::vector<int64_t> clients_with_row(const RunState& state, int64_t clients) {
  std::vector<int64_t> result;
  for (int64_t client = 0; client < clients; ++client)
    if (state.placement.has_row(client)) result.push_back(client);
  return result;
}

constexpr const char* kCommon = "common";

}  // namespace

RunState::RunState(const Algorithm& algorithm, const Problem& problem, int64_t clients_count, int ranks)
    : common(torch::zeros({algorithm.common_layout().size()}, problem.model().options())),
      clients(algorithm, problem.model().options()),
      placement(clients_count, ranks) {
  algorithm.start_common(common);
}

void exchange(const Communicator& comm, RunState& state, const std::vector<Move>& moves, int64_t row_size) {
  if (row_size == 0 || moves.empty()) return;
  std::vector<Transfer> transfers;
  comm.together([&] {
    for (const Move& move : moves) {
      if (move.to == comm.rank()) state.clients.kept_row(move.client);
      const bool mine = move.to == comm.rank() || move.from == comm.rank();
      transfers.push_back({move.client, move.from, move.to,
                           mine ? state.clients.bytes(move.client) : std::span<std::byte>{}});
    }
  });
  comm.exchange(transfers);
  for (const Move& move : moves)
    if (move.from == comm.rank()) state.clients.drop(move.client);
}

void stream_rows(const Communicator& comm, const RunState& state, const std::vector<int64_t>& clients,
                 const std::function<void(int64_t, const torch::Tensor&)>& take) {
  std::exception_ptr failure;
  for (int64_t client : clients) {
    const int owner = state.placement.owner(client);
    if (!comm.is_root()) {
      if (owner != comm.rank()) continue;
      const torch::Tensor row = state.clients.row(client);
      comm.send_bytes({static_cast<const std::byte*>(row.data_ptr()), row.nbytes()}, 0);
      continue;
    }
    torch::Tensor row;
    if (owner == 0) {
      row = state.clients.row(client);
    } else {
      const std::vector<std::byte> bytes = comm.receive_bytes(owner);
      row = torch::empty({int64_t(bytes.size()) / state.common.element_size()}, state.common.options());
      std::copy(bytes.begin(), bytes.end(), static_cast<std::byte*>(row.data_ptr()));
    }
    try {
      if (!failure) take(client, row);
    } catch (...) {
      failure = std::current_exception();  // the others still send
    }
  }
  comm.together([&] {
    if (failure) std::rethrow_exception(failure);
  });
}

void save_checkpoint(const Communicator& comm, const RunState& state, const std::string& path,
                     const Texts& texts) {
  const int64_t count = state.placement.clients();
  const std::vector<int64_t> clients = clients_with_row(state, count);
  std::optional<CheckpointWriter> writer;
  comm.together([&] {
    if (!comm.is_root()) return;
    writer.emplace(path, state.round);
    for (const auto& [name, text] : texts) writer->put_text(name, text);
    with_type(state.common, [&]<class T>(T) {
      writer->put_array<T>(kCommon, values<T>(state.common));
      writer->declare_client_rows<T>(clients, state.clients.row(0).numel());
    });
  });
  stream_rows(comm, state, clients, [&](int64_t client, const torch::Tensor& row) {
    with_type(row, [&]<class T>(T) { writer->put_client_row<T>(client, values<T>(row)); });
  });
  comm.together([&] {
    if (writer) writer->commit();
  });
}

void load_checkpoint(const Communicator& comm, RunState& state, const Algorithm& algorithm,
                     const std::string& path, const std::function<void(const Texts&)>& check) {
  comm.together([&] {
    const CheckpointReader reader(path);
    Texts texts;
    for (const std::string& name : reader.text_names()) texts.emplace_back(name, reader.text(name));
    check(texts);
    if (reader.client_row_length() != algorithm.client_layout().size() && !reader.clients().empty())
      throw InputError(path + " holds client rows of " + std::to_string(reader.client_row_length()) +
                       " numbers, but this run needs " + std::to_string(algorithm.client_layout().size()) +
                       "; resume with the options of the run that wrote it");
    with_type(state.common, [&]<class T>(T) {
      const std::vector<T> common = reader.array<T>(kCommon);
      if (int64_t(common.size()) != state.common.numel())
        throw InputError(path + " holds a common row of " + std::to_string(common.size()) +
                         " numbers, but this run needs " + std::to_string(state.common.numel()) +
                         "; resume with the options of the run that wrote it");
      std::copy(common.begin(), common.end(), state.common.data_ptr<T>());
      for (int64_t client : reader.clients()) {
        state.placement.set_has_row(client);
        if (state.placement.owner(client) != comm.rank()) continue;
        const std::vector<T> row = reader.client_row<T>(client);
        std::copy(row.begin(), row.end(), state.clients.kept_row(client).data_ptr<T>());
      }
    });
    state.round = reader.round();
  });
}

}  // namespace pf2lora
