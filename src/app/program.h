// The program from its arguments to its exit code.
#pragma once
#include <span>

#include "comm/communicator.h"
#include "core/error.h"

namespace pf2lora {

// All ranks. `arguments` without the program's name. Throws AgreedError.
ExitCode run_program(std::span<char* const> arguments, const Communicator& comm);

// One rank of the program from before MPI_Init to the end of the process: run_program() and the messages of
// what it throws. Static objects are not destroyed: LibTorch takes as long to forget its operators as a short
// run.
[[noreturn]] void run_process(std::span<char* const> arguments);

}  // namespace pf2lora
