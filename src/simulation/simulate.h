// A run from checked options to its files: the one loop of the program.
#pragma once
#include "comm/communicator.h"
#include "core/options.h"
#include "io/hdf5_file.h"
#include "simulation/report.h"

namespace pf2lora {

struct RunRequest {
  Options options;
  OptionSet* method_options = nullptr;  // those of options.algorithm, null when it has none
  std::string config;                   // an ini file that reproduces the run
  std::vector<Attribute> provenance;    // of the program: version, commit, command line, libraries
  std::vector<std::string> typed = {};  // options of which the user is told where they have no effect
};

struct RunOutcome {
  ExitCode code = ExitCode::done;
  std::string stopped_by;     // "signal SIGUSR1", "--max-hours 1", where the run was cut short
  bool was_complete = false;  // a resumed run of which nothing was left to do: no file was changed
};

// All ranks. Reads and checks every input, then trains, evaluates and records until all rounds are done or
// the run has to stop. Throws AgreedError, the same on every rank; what was saved before stays.
RunOutcome simulate(RunRequest& request, const Communicator& comm, Observer& observer);

}  // namespace pf2lora
