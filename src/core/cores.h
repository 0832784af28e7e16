// The processor cores of this process.
#pragma once
#include <cstdint>

namespace pf2lora {

// How many the system lets it run on: those that a rank is bound to, or all. At least 1.
int64_t usable_cores();

}  // namespace pf2lora
