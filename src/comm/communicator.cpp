// Collectives: what all ranks do at once.
#include "comm/communicator.h"

#include <cstdlib>
#include <exception>
#include <new>

#include "comm/mpi_calls.h"
#include "core/exact_sum.h"

namespace pf2lora {
namespace {

constexpr int gather_tag = 3;

struct Failure {
  ExitCode code;
  std::string message;
};

// What the work threw; nothing if it came to its end.
std::optional<Failure> failure_of(const std::function<void()>& work) {
  try {
    work();
    return std::nullopt;
  } catch (const Error& error) {
    return Failure{error.code(), error.what()};
  } catch (const std::bad_alloc&) {
    return Failure{ExitCode::internal_error,
                   "out of memory; start fewer ranks on a machine or take smaller groups (--lockstep)"};
  } catch (const std::exception& error) {
    return Failure{ExitCode::internal_error, error.what()};
  } catch (...) {
    return Failure{ExitCode::internal_error, "an exception of unknown type was thrown"};
  }
}

int64_t reduce_one(int64_t value, MPI_Op operation, MPI_Comm comm) {
  int64_t result = 0;
  check_mpi(MPI_Allreduce(&value, &result, 1, MPI_INT64_T, operation, comm), "MPI_Allreduce");
  return result;
}

}  // namespace

void check_mpi(int result, const char* call) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(result, text, &length);
  throw Error(ExitCode::internal_error,
              std::string(call) + " failed (" + std::string(text, static_cast<size_t>(length)) +
                  "); see what mpirun or the job's log says about ranks and network");
}

int Communicator::rank() const {
  return state_->rank;
}
int Communicator::size() const {
  return state_->size;
}
const std::string& Communicator::host_name() const {
  return state_->hosts[static_cast<size_t>(rank())];
}
const std::vector<std::string>& Communicator::hosts() const {
  return state_->hosts;
}
int Communicator::local_rank() const {
  return state_->local_rank;
}
int Communicator::local_size() const {
  return state_->local_size;
}
int Communicator::local_cores() const {
  return state_->local_cores;
}

void Communicator::together(const std::function<void()>& work) const {
  const auto watched_work = [&] {
    watch_();
    work();
    watch_();
  };
  const std::optional<Failure> failure = watch_ ? failure_of(watched_work) : failure_of(work);
  const int64_t none = size();
  const int64_t first = reduce_one(failure ? rank() : none, MPI_MIN, state_->comm);
  if (first == none) return;

  // A text starts with a character that says whether its rank failed.
  const std::vector<std::string> texts = all_gather(failure ? "!" + failure->message : std::string());
  int64_t code = failure ? static_cast<int64_t>(failure->code) : 0;
  broadcast(std::span(&code, 1), static_cast<int>(first));
  const std::string& text = texts[static_cast<size_t>(first)];
  const bool everywhere = std::count(texts.begin(), texts.end(), text) == size();
  throw AgreedError(static_cast<ExitCode>(code),
                    text.substr(1) + (everywhere ? "" : " (rank " + std::to_string(first) + ")"));
}

bool Communicator::agree(bool here) const {
  return all_reduce_max(here) != 0;
}

void Communicator::all_reduce(ExactSum& sum) const {
  const std::span<int64_t> limbs = sum.limbs();
  in_pieces(limbs.size(), message_limit_ / sizeof(int64_t), [&](size_t begin, size_t count) {
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, limbs.data() + begin, static_cast<int>(count), MPI_INT64_T, MPI_SUM,
                            state_->comm),
              "MPI_Allreduce");
  });
  try {
    sum.check_terms();
  } catch (const Error& error) {  // the same everywhere: all ranks hold the same sum
    throw AgreedError(error.code(), error.what());
  }
}

int64_t Communicator::all_reduce_max(int64_t value) const {
  return reduce_one(value, MPI_MAX, state_->comm);
}

void Communicator::broadcast_bytes(std::span<std::byte> data, int root) const {
  in_pieces(data.size(), message_limit_, [&](size_t begin, size_t count) {
    check_mpi(MPI_Bcast(data.data() + begin, static_cast<int>(count), MPI_BYTE, root, state_->comm),
              "MPI_Bcast");
  });
}

void Communicator::broadcast(std::string& text, int root) const {
  int64_t count = static_cast<int64_t>(text.size());
  broadcast(std::span(&count, 1), root);
  text.resize(static_cast<size_t>(count));
  broadcast_bytes(std::as_writable_bytes(std::span(text)), root);
}

Communicator::ByteRows Communicator::gather_bytes(std::span<const std::byte> data) const {
  const int64_t count = static_cast<int64_t>(data.size());
  std::vector<int64_t> counts(rank() == 0 ? static_cast<size_t>(size()) : 0);
  check_mpi(MPI_Gather(&count, 1, MPI_INT64_T, counts.data(), 1, MPI_INT64_T, 0, state_->comm), "MPI_Gather");

  Messages messages(state_->comm, gather_tag, message_limit_);
  ByteRows rows(counts.size());
  if (rank() == 0) {
    rows[0].assign(data.begin(), data.end());
    for (size_t other = 1; other < rows.size(); ++other) {
      rows[other].resize(static_cast<size_t>(counts[other]));
      messages.receive(rows[other], static_cast<int>(other));
    }
  } else {
    messages.send(data, 0);
  }
  messages.wait();
  return rows;
}

Communicator::ByteRows Communicator::all_gather_bytes(std::span<const std::byte> data) const {
  ByteRows rows = gather_bytes(data);
  std::vector<int64_t> counts;
  std::vector<std::byte> packed;  // all rows end to end
  for (const auto& row : rows) {
    counts.push_back(static_cast<int64_t>(row.size()));
    packed.insert(packed.end(), row.begin(), row.end());
  }
  broadcast(counts);
  broadcast(packed);
  if (rank() == 0) return rows;
  auto position = packed.begin();
  for (const int64_t count : counts) {
    rows.emplace_back(position, position + count);
    position += count;
  }
  return rows;
}

std::vector<std::vector<double>> Communicator::gather(std::span<const double> values) const {
  return unpack<std::vector<double>>(gather_bytes(std::as_bytes(values)));
}

std::vector<std::string> Communicator::gather(const std::string& text) const {
  return unpack<std::string>(gather_bytes(std::as_bytes(std::span(text))));
}

std::vector<std::string> Communicator::all_gather(const std::string& text) const {
  return unpack<std::string>(all_gather_bytes(std::as_bytes(std::span(text))));
}

Communicator Communicator::with_message_limit(size_t bytes) const {
  if (bytes < sizeof(int64_t) || bytes > default_message_limit)
    throw Error(ExitCode::internal_error,
                "a message limit of " + std::to_string(bytes) + " bytes cannot be used");
  Communicator result = *this;
  result.message_limit_ = bytes;
  return result;
}

Communicator Communicator::with_watch(std::function<void()> watch) const {
  Communicator result = *this;
  result.watch_ = std::move(watch);
  return result;
}

void Communicator::abort(int exit_code) const {
  MPI_Abort(state_->comm, exit_code);
  std::_Exit(exit_code);  // MPI_Abort does not return; the standard does not say so
}

}  // namespace pf2lora
