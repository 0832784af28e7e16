// adapters.h5: what was learned, by site (analysis/FORMAT.md).
#pragma once
#include <string>

#include "simulation/run_state.h"

namespace pf2lora {

// All ranks. Written by rank 0, atomically.
void write_adapters(const Communicator& comm, const RunState& state, const Algorithm& algorithm,
                    const std::string& path);

}  // namespace pf2lora
