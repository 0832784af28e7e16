#include <algorithm>
#include <cstdlib>

#include "comm/mpi_calls.h"
#include "core/cores.h"

namespace pf2lora {
namespace {

std::string processor_name() {
  char name[MPI_MAX_PROCESSOR_NAME];
  int length = 0;
  check_mpi(MPI_Get_processor_name(name, &length), "MPI_Get_processor_name");
  return std::string(name, static_cast<size_t>(length));
}

// Where all ranks are on one machine, Open MPI does not need the drivers of networks, which take 0.2 s to
// load. What the user has set stays.
void leave_networks_out() {
  const auto given = [](const char* name) { return std::string(std::getenv(name) ? std::getenv(name) : ""); };
  const std::string ranks = given("OMPI_COMM_WORLD_SIZE");
  const bool alone = given("PMIX_RANK").empty() && given("PMI_RANK").empty() && given("SLURM_PROCID").empty();
  if (ranks.empty() ? !alone : ranks != given("OMPI_COMM_WORLD_LOCAL_SIZE")) return;
  setenv("OMPI_MCA_pml", "ob1", 0);
}

void start_mpi() {
  int started = 0;
  check_mpi(MPI_Initialized(&started), "MPI_Initialized");
  if (started) throw Error(ExitCode::internal_error, "MPI was started twice in one process");
  leave_networks_out();
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_FUNNELED)
    throw Error(ExitCode::internal_error, "this MPI library allows no threads (" + mpi_library_version() +
                                              "); use one that was built with MPI_THREAD_FUNNELED or better");
}

}  // namespace

Communicator::State::~State() {
  int finished = 1;
  MPI_Finalized(&finished);
  if (finished) return;
  for (MPI_Comm* own : {&machine, &comm})
    if (*own != MPI_COMM_NULL) MPI_Comm_free(own);
}

MpiSession::MpiSession() : communicator_(nullptr) {
  start_mpi();
  auto state = std::make_shared<Communicator::State>();
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &state->comm), "MPI_Comm_dup");
  check_mpi(MPI_Comm_set_errhandler(state->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(state->comm, &state->rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(state->comm, &state->size), "MPI_Comm_size");

  check_mpi(
      MPI_Comm_split_type(state->comm, MPI_COMM_TYPE_SHARED, state->rank, MPI_INFO_NULL, &state->machine),
      "MPI_Comm_split_type");
  check_mpi(MPI_Comm_set_errhandler(state->machine, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(state->machine, &state->local_rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(state->machine, &state->local_size), "MPI_Comm_size");

  Cores cores = usable_cores();
  check_mpi(
      MPI_Allreduce(MPI_IN_PLACE, cores.data(), int(cores.size()), MPI_UINT8_T, MPI_MAX, state->machine),
      "MPI_Allreduce");
  state->local_cores = std::max(1, int(std::ranges::count(cores, 1)));

  communicator_.state_ = state;
  state->hosts = communicator_.all_gather(processor_name());
}

MpiSession::~MpiSession() {
  communicator_.state_.reset();
  MPI_Finalize();
}

std::string mpi_library_version() {
  char version[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  check_mpi(MPI_Get_library_version(version, &length), "MPI_Get_library_version");
  std::string text(version, static_cast<size_t>(length));
  text.resize(std::min(text.find_first_of(",\n"), text.size()));
  std::replace(text.begin(), text.end(), '\t', ' ');
  return text;
}

}  // namespace pf2lora
