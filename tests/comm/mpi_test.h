// For tests that mpirun starts: all ranks run the same tests in the same order. Use EXPECT, not ASSERT,
// before a call that communicates, so that a failure on one rank does not leave the others waiting.
#pragma once
#include "comm/communicator.h"

namespace pf2lora {

// The ranks of this test program, from mpi_main.cpp.
const Communicator& communicator();

}  // namespace pf2lora
