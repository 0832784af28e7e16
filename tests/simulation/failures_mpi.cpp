// A failure of any rank at any place of a run reaches all ranks as one error, and what was saved before is
// good: the run, gone on with or started again, ends with the bits of one that nothing disturbed.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <new>
#include <optional>
#include <stdexcept>

#include "algorithm/registry.h"
#include "io/checkpoint.h"
#include "io/hdf5_file.h"
#include "io/temporary_directory.h"
#include "mpi_test.h"
#include "simulation/simulate.h"

namespace pf2lora {
namespace {

namespace fs = std::filesystem;

// A directory of rank 0 that every rank knows.
class SharedDirectory {
 public:
  SharedDirectory() {
    if (communicator().is_root()) path_ = directory_.emplace().path();
    communicator().broadcast(path_);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::optional<TemporaryDirectory> directory_;
  std::string path_;
};

// Five clients of whom three train in a round, alone, so that rows move; a round takes a millisecond.
Options small_run(const std::string& output) {
  Options options;
  options.output = output;
  options.problem = "matrix";
  options.rounds = 3;
  options.clients = 5;
  options.clients_per_round = 3;
  options.lockstep = 1;
  options.rank = 4;
  options.client_rank = 1;
  options.local_steps = 2;
  options.optimizer = "sgd";
  options.learning_rate = options.client_learning_rate = 0.02;
  options.checkpoint_every = 2;
  options.spectra_every = 2;
  return options;
}

void run(const Options& options, const Communicator& comm, Observer& observer) {
  const auto method_options = find_algorithm(options.algorithm).make_options();
  RunRequest request{options, method_options.get(), "rank = " + std::to_string(options.rank) + "\n", {}};
  simulate(request, comm, observer);
}

void run(const Options& options) {
  Observer silent;
  run(options, communicator(), silent);
}

// Everything that the run computed, as bytes.
std::string computed(const std::string& output) {
  std::string bytes;
  const auto add = [&](const std::vector<double>& values) {
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
  };
  const CheckpointReader state(output + "/checkpoint.h5");
  add({double(state.round())});
  add(state.array<double>("common"));
  for (int64_t client : state.clients()) add(state.client_row<double>(client));
  const Hdf5File results = Hdf5File::open(output + "/results.h5");
  for (const char* name : {"train_loss", "personal_loss", "common_loss", "total_singular_values", "cosine"})
    add(results.read<double>(name));
  const Hdf5File adapters = Hdf5File::open(output + "/adapters.h5");
  for (const char* name : {"common/matrix/A", "common/matrix/B", "client/matrix/C", "client/matrix/D"})
    add(adapters.read<double>(name));
  return bytes;
}

// The same on rank 0, and nothing on the others; a failure of the test where files are missing.
std::string outcome(const std::string& output) {
  try {
    return communicator().is_root() ? computed(output) : "";
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
    return "";
  }
}

struct Ending {
  std::optional<ExitCode> code;  // nothing where the run came to its end
  std::string message;
};

// Runs until it fails, and checks that all ranks fail alike and can go on talking.
Ending ending_of(const Options& options, const Communicator& comm, Observer& observer) {
  Ending ending;
  try {
    run(options, comm, observer);
  } catch (const AgreedError& error) {
    ending = {error.code(), error.what()};
  }
  for (const std::string& message : communicator().all_gather(ending.message))
    EXPECT_EQ(message, ending.message) << "not the same on every rank";
  return ending;
}

// Goes on with what a failure left, or starts again where nothing was saved.
void repair(Options options) {
  const auto stands = [&](const std::string& path) { return communicator().agree(fs::exists(path)); };
  options.resume = stands(options.output + "/checkpoint.h5");
  options.overwrite = !options.resume && stands(options.output);
  run(options);
}

std::string suffix(int rank) {
  return communicator().size() == 1 ? "" : " (rank " + std::to_string(rank) + ")";
}

class Failures : public testing::Test {
 protected:
  void SetUp() override {
    run(small_run(directory_ / "undisturbed"));
    expected_ = outcome(directory_ / "undisturbed");
  }
  void expect_repaired(const Options& options, const std::string& where) {
    repair(options);
    EXPECT_TRUE(outcome(options.output) == expected_) << where;
  }

  SharedDirectory directory_;
  std::string expected_;  // on rank 0
};

ExitCode code_of(int64_t kind) {
  const ExitCode codes[] = {ExitCode::numerical_failure, ExitCode::internal_error, ExitCode::bad_input};
  return codes[kind % 3];
}

// Throws one of the kinds of exception that a run can meet.
[[noreturn]] void fail(int64_t kind) {
  if (kind % 3 == 0) throw NumericalError("injected");
  if (kind % 3 == 1) throw std::runtime_error("injected");
  throw InputError("injected");
}

TEST_F(Failures, WorkThatFailsOnAnyRankAtAnyPlaceEndsAllRanks) {
  int64_t places = 0;
  Observer silent;
  run(small_run(directory_ / "counted"), communicator().with_watch([&] { ++places; }), silent);
  EXPECT_GT(places, 50);
  for (int64_t place = 0; place < places; ++place) {
    const int failing =
        int(place / 2 % communicator().size());  // two places are the ends of one piece of work
    const std::string name = "place " + std::to_string(place);
    const Options options = small_run(directory_ / name);
    int64_t passed = 0;
    const Communicator comm = communicator().with_watch([&] {
      if (passed++ == place && communicator().rank() == failing) fail(place);
    });
    const Ending ending = ending_of(options, comm, silent);
    EXPECT_EQ(ending.message, "injected" + suffix(failing)) << name;
    EXPECT_EQ(ending.code, code_of(place)) << name;
    expect_repaired(options, name);
  }
}

TEST_F(Failures, AClientThatCannotBeTrainedEndsAllRanksWithItsMessage) {
  struct Failing : Observer {
    bool failing = false;
    void group_done(const GroupProgress& progress) override {
      if (failing && progress.round == 2) throw NumericalError("client 1, round 2");
    }
  };
  int failures = 0;
  for (int failing = 0; failing < communicator().size(); ++failing) {
    const Options options = small_run(directory_ / ("train " + std::to_string(failing)));
    Failing observer;
    observer.failing = communicator().rank() == failing;
    const Ending ending = ending_of(options, communicator(), observer);
    if (!ending.code) continue;  // this rank has no group
    ++failures;
    EXPECT_EQ(ending.code, ExitCode::numerical_failure);
    EXPECT_EQ(ending.message, "client 1, round 2" + suffix(failing));
    expect_repaired(options, ending.message);
  }
  EXPECT_EQ(failures, std::min(communicator().size(), 3)) << "there are three groups";
}

// No file may become longer than the limit of rank 0, as on a disk that is full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    if (communicator().is_root()) ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(Failures, ADiskThatIsFullEndsAllRanks) {
  int64_t largest = 0;
  if (communicator().is_root())
    for (const auto& entry : fs::directory_iterator(directory_ / "undisturbed"))
      largest = std::max(largest, int64_t(entry.file_size()));
  largest = communicator().all_reduce_max(largest);
  Observer silent;
  const int64_t trials = 8;
  for (int64_t trial = 0; trial < trials; ++trial) {
    const int64_t bytes = largest * trial / trials;
    const Options options = small_run(directory_ / ("limit " + std::to_string(bytes)));
    std::optional<FileSizeLimit> limit(bytes);
    const Ending ending = ending_of(options, communicator(), silent);
    limit.reset();
    // With no byte at all it is the lock that cannot be written: a matter of --output.
    EXPECT_EQ(ending.code, bytes == 0 ? ExitCode::bad_option : ExitCode::internal_error) << bytes;
    EXPECT_TRUE(ending.message.ends_with(suffix(0))) << ending.message;
    EXPECT_NE(ending.message.find(options.output), std::string::npos) << ending.message;
    expect_repaired(options, std::to_string(bytes) + " bytes: " + ending.message);
  }
}

TEST_F(Failures, ADirectoryThatVanishesEndsAllRanks) {
  struct Remover : Observer {
    std::string path;
    void end_round(const RoundReport& report) override {
      if (report.round == 2) fs::remove_all(path);
    }
  };
  const Options options = small_run(directory_ / "vanishing");
  Remover observer;
  observer.path = options.output;
  const Ending ending = ending_of(options, communicator(), observer);
  EXPECT_EQ(ending.code, ExitCode::internal_error);
  EXPECT_NE(ending.message.find(options.output), std::string::npos) << ending.message;
  expect_repaired(options, ending.message);
}

}  // namespace
}  // namespace pf2lora
