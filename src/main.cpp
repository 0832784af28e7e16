// pf2lora: a simulator of personalised federated fine-tuning. MPI up, options, the run, the exit code.
#include <cstdio>
#include <iostream>

#include "app/program.h"
#include "comm/communicator.h"

int main(int argc, char** argv) {
  using namespace pf2lora;
  int exit_code = int(ExitCode::internal_error);
  try {
    const MpiSession session;
    const Communicator& comm = session.communicator();
    try {
      exit_code = int(run_program({argv + 1, size_t(argc - 1)}, comm));
    } catch (const AgreedError& error) {  // thrown alike on every rank
      exit_code = int(error.code());
      if (comm.is_root()) std::cerr << "pf2lora: " << error.what() << std::endl;
    } catch (const std::exception& error) {  // of this rank alone: the others wait for it
      std::cerr << "pf2lora: rank " << comm.rank() << ": " << error.what() << std::endl;
      comm.abort(exit_code);
    }
  } catch (const std::exception& error) {
    std::cerr << "pf2lora: " << error.what() << std::endl;
  }
  return exit_code;
}
