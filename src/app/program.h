// The program from its arguments to its exit code.
#pragma once
#include <span>

#include "comm/communicator.h"
#include "core/error.h"

namespace pf2lora {

// All ranks. `arguments` without the program's name. Throws AgreedError.
ExitCode run_program(std::span<char* const> arguments, const Communicator& comm);

}  // namespace pf2lora
