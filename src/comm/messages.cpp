// Messages between pairs of ranks: send_bytes, receive_bytes, exchange.
#include "comm/mpi_calls.h"

namespace pf2lora {
namespace {

constexpr int pair_tag = 1;
constexpr int exchange_tag = 2;

// Transfers in flight at once; bounds what the receiving side has to queue.
constexpr size_t transfers_at_once = 1024;

Error internal_error(const std::string& message) {
  return Error(ExitCode::internal_error, message);
}

std::string describe(const Transfer& transfer) {
  return "transfer of item " + std::to_string(transfer.item) + " from rank " + std::to_string(transfer.from) +
         " to rank " + std::to_string(transfer.to);
}

// FNV-1a over the parts of the list that all ranks share.
uint64_t fingerprint(std::span<const Transfer> transfers) {
  uint64_t hash = 14695981039346656037u;
  const auto mix = [&hash](int64_t number) {
    for (int shift = 0; shift < 64; shift += 8)
      hash = (hash ^ (static_cast<uint64_t>(number) >> shift & 0xff)) * 1099511628211u;
  };
  mix(static_cast<int64_t>(transfers.size()));
  for (const Transfer& transfer : transfers) {
    mix(transfer.item);
    mix(transfer.from);
    mix(transfer.to);
  }
  return hash;
}

}  // namespace

void Messages::send(std::span<const std::byte> data, int to) {
  const auto post = [&](size_t begin, size_t count) {
    requests_.push_back(MPI_REQUEST_NULL);
    expected_bytes_.push_back(sending);
    check_mpi(
        MPI_Isend(data.data() + begin, static_cast<int>(count), MPI_BYTE, to, tag_, comm_, &requests_.back()),
        "MPI_Isend");
  };
  if (data.empty()) return post(0, 0);
  in_pieces(data.size(), limit_, post);
}

void Messages::receive(std::span<std::byte> data, int from) {
  const auto post = [&](size_t begin, size_t count) {
    requests_.push_back(MPI_REQUEST_NULL);
    expected_bytes_.push_back(static_cast<int>(count));
    check_mpi(MPI_Irecv(data.data() + begin, static_cast<int>(count), MPI_BYTE, from, tag_, comm_,
                        &requests_.back()),
              "MPI_Irecv");
  };
  if (data.empty()) return post(0, 0);
  in_pieces(data.size(), limit_, post);
}

void Messages::wait() {
  std::vector<MPI_Status> statuses(requests_.size());
  const int result = MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), statuses.data());
  if (result == MPI_ERR_IN_STATUS)
    for (const MPI_Status& status : statuses) check_mpi(status.MPI_ERROR, "MPI_Waitall");
  check_mpi(result, "MPI_Waitall");
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (expected_bytes_[i] == sending) continue;
    int received = 0;
    check_mpi(MPI_Get_count(&statuses[i], MPI_BYTE, &received), "MPI_Get_count");
    if (received != expected_bytes_[i])
      throw internal_error("a message from rank " + std::to_string(statuses[i].MPI_SOURCE) + " has " +
                           std::to_string(received) + " bytes where " + std::to_string(expected_bytes_[i]) +
                           " were expected");
  }
  requests_.clear();
  expected_bytes_.clear();
}

void Communicator::send_bytes(std::span<const std::byte> data, int to) const {
  if (to == rank() || to < 0 || to >= size())
    throw internal_error("rank " + std::to_string(rank()) + " cannot send to rank " + std::to_string(to));
  const int64_t count = static_cast<int64_t>(data.size());
  Messages messages(state_->comm, pair_tag, message_limit_);
  messages.send(std::as_bytes(std::span(&count, 1)), to);
  messages.send(data, to);
  messages.wait();
}

std::vector<std::byte> Communicator::receive_bytes(int from) const {
  if (from == rank() || from < 0 || from >= size())
    throw internal_error("rank " + std::to_string(rank()) + " cannot receive from rank " +
                         std::to_string(from));
  int64_t count = 0;
  Messages messages(state_->comm, pair_tag, message_limit_);
  messages.receive(std::as_writable_bytes(std::span(&count, 1)), from);
  messages.wait();
  std::vector<std::byte> data(static_cast<size_t>(count));
  messages.receive(data, from);
  messages.wait();
  return data;
}

void Communicator::exchange(std::span<const Transfer> transfers) const {
  together([&] {
    for (const Transfer& transfer : transfers) {
      if (std::min(transfer.from, transfer.to) < 0 || std::max(transfer.from, transfer.to) >= size())
        throw internal_error("the " + describe(transfer) + " names a rank that is not there");
      const bool takes_part = transfer.from == rank() || transfer.to == rank();
      if (!takes_part && !transfer.data.empty())
        throw internal_error("the " + describe(transfer) + " was given data on a rank without a part in it");
    }
  });
  const int64_t hash = static_cast<int64_t>(fingerprint(transfers));
  if (all_reduce_max(hash) != ~all_reduce_max(~hash))  // the largest is the smallest
    throw AgreedError(ExitCode::internal_error, "the ranks disagree about the transfers between them");

  Messages messages(state_->comm, exchange_tag, message_limit_);
  // Every rank cuts the list at the same places, so each part ends by itself.
  in_pieces(transfers.size(), transfers_at_once, [&](size_t begin, size_t count) {
    for (const Transfer& transfer : transfers.subspan(begin, count))
      if (transfer.to == rank() && transfer.from != rank()) messages.receive(transfer.data, transfer.from);
    for (const Transfer& transfer : transfers.subspan(begin, count))
      if (transfer.from == rank() && transfer.to != rank()) messages.send(transfer.data, transfer.to);
    messages.wait();
  });
}

}  // namespace pf2lora
