// The ranks of a run and what they say to each other. The only folder that includes mpi.h.
//
// The rule that keeps a failing rank from leaving the others waiting: local work, which may throw, goes
// inside together(); communication stays outside. Every member function that is marked "all ranks" is called
// by every rank, in the same order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/memory.h"

namespace pf2lora {

class ExactSum;

// An error that every rank throws alike, so one rank prints it and all of them leave. Any other exception may
// be that of one rank alone: main can then only print it and call Communicator::abort.
class AgreedError : public Error {
  using Error::Error;
};

// Rows that one rank hands to another. `data` is what this rank sends (from) or receives into (to); empty
// where this rank has no part. Nothing happens where from == to.
struct Transfer {
  int64_t item;  // what travels, for example a client; names the transfer
  int from;
  int to;
  std::span<std::byte> data;
};

// A value: copies speak over the same ranks. Failing MPI calls throw Error (internal_error) on this rank.
class Communicator {
 public:
  int rank() const;
  int size() const;
  bool is_root() const { return rank() == 0; }

  // The machine of this rank, and of every rank. Ranks of one machine have local ranks 0 .. local_size() - 1.
  const std::string& host_name() const;
  const std::vector<std::string>& hosts() const;  // [size]
  int local_rank() const;
  int local_size() const;
  // Physical cores that the ranks of this machine may run on, between them. At least 1.
  int local_cores() const;

  // All ranks. Runs work, which must not communicate, on every rank; if it throws on any, all ranks throw an
  // AgreedError with code and message of the lowest failing rank. The message ends in " (rank R)" unless all
  // ranks failed with the same one. One collective of 8 bytes when nothing fails.
  void together(const std::function<void()>& work) const;

  // All ranks. As together, and hands back what work returned here.
  template <typename Work>
  auto together_value(Work&& work) const {
    std::optional<std::invoke_result_t<Work&>> result;
    together([&] { result.emplace(work()); });
    return std::move(*result);
  }

  // All ranks, alike in `bytes`: a FilledMemory of which the ranks of a machine read one copy, filled by one
  // of them. Where the system does not let them, each has its own. `fill` fails as work of together does.
  std::shared_ptr<const std::byte> filled_on_node(size_t bytes, const FillMemory& fill) const;

  // All ranks. True everywhere if `here` is true anywhere.
  bool agree(bool here) const;

  // All ranks. The sum over the ranks on every rank, in place; all ranks hold sums of one size. Throws
  // AgreedError (numerical_failure) if the terms of all ranks are more than an ExactSum holds.
  void all_reduce(ExactSum& sum) const;
  int64_t all_reduce_max(int64_t value) const;

  // All ranks. Everyone gets what `root` holds: text and vectors take root's size, spans have it already.
  void broadcast(std::string& text, int root = 0) const;
  template <typename T>
  void broadcast(std::vector<T>& values, int root = 0) const {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_same_v<T, bool>);
    int64_t count = static_cast<int64_t>(values.size());
    broadcast_bytes(std::as_writable_bytes(std::span(&count, 1)), root);
    values.resize(static_cast<size_t>(count));
    broadcast_bytes(std::as_writable_bytes(std::span(values)), root);
  }
  template <typename T>
  void broadcast(std::span<T> values, int root = 0) const {
    static_assert(std::is_trivially_copyable_v<T>);
    broadcast_bytes(std::as_writable_bytes(values), root);
  }

  // All ranks. What each rank gave, by rank, of any length; on rank 0, and empty on the others.
  std::vector<std::vector<double>> gather(std::span<const double> values) const;
  std::vector<std::string> gather(const std::string& text) const;

  // All ranks. What each rank gave, by rank, on every rank.
  template <typename T>
  std::vector<std::vector<T>> all_gather(std::span<const T> values) const {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_same_v<T, bool>);
    return unpack<std::vector<T>>(all_gather_bytes(std::as_bytes(values)));
  }
  std::vector<std::string> all_gather(const std::string& text) const;

  // One pair of ranks: one sends, the other receives, messages in the order sent. A rank that sends to itself
  // throws Error.
  void send_bytes(std::span<const std::byte> data, int to) const;
  std::vector<std::byte> receive_bytes(int from) const;

  // All ranks, all with the same list (item, from, to), which is checked. Both ends of a transfer have data
  // of one size. Returns when this rank's rows have left and arrived.
  void exchange(std::span<const Transfer> transfers) const;

  // The same ranks; no message is longer than `bytes` (at least 8, all ranks alike): longer ones are cut.
  Communicator with_message_limit(size_t bytes) const;

  // The same ranks; `watch` is called at the beginning and at the end of all work that together runs, as a
  // part of it. Tests let it throw, so that a run fails on a given rank at a given place.
  Communicator with_watch(std::function<void()> watch) const;

  // Ends all ranks at once, without unwinding, with this exit code: main's last resort.
  [[noreturn]] void abort(int exit_code) const;

 private:
  friend class MpiSession;
  struct State;
  static constexpr size_t default_message_limit = size_t{1} << 30;
  using ByteRows = std::vector<std::vector<std::byte>>;

  explicit Communicator(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  void broadcast_bytes(std::span<std::byte> data, int root) const;
  ByteRows gather_bytes(std::span<const std::byte> data) const;
  ByteRows all_gather_bytes(std::span<const std::byte> data) const;

  template <typename Row>
  static std::vector<Row> unpack(const ByteRows& rows) {
    using T = typename Row::value_type;
    std::vector<Row> result;
    result.reserve(rows.size());
    for (const auto& bytes : rows) {
      Row row(bytes.size() / sizeof(T), T());
      const std::span<std::byte> target = std::as_writable_bytes(std::span(row));
      for (size_t i = 0; i < target.size(); ++i) target[i] = bytes[i];
      result.push_back(std::move(row));
    }
    return result;
  }

  std::shared_ptr<const State> state_;
  size_t message_limit_ = default_message_limit;
  std::function<void()> watch_;
};

// MPI from construction to destruction, for a program whose main thread alone communicates. Started without
// mpirun, the run has one rank. One a process; all ranks destroy it, and no Communicator is used after it.
class MpiSession {
 public:
  // Throws Error if MPI is up already or cannot be used from a program with threads. Where all ranks are on
  // one machine, sets OMPI_MCA_pml unless it is set.
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  const Communicator& communicator() const { return communicator_; }

 private:
  Communicator communicator_;
};

// Name and version of the MPI library: "Open MPI v4.1.4". Needs no session.
std::string mpi_library_version();

}  // namespace pf2lora
