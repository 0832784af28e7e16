// The processor cores of this process.
#pragma once
#include <array>
#include <cstdint>

namespace pf2lora {

// 1 at each physical core, which has the number of its first hardware thread, and 0 elsewhere.
using Cores = std::array<uint8_t, 1024>;

// Those that the system lets this process run on: those that a rank is bound to, or all.
Cores usable_cores();

}  // namespace pf2lora
