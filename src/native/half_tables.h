// One table of products in bf16 for each kind of processor: constants, each defined in the file of its name.
#pragma once
#include "native/kernels.h"

namespace pf2lora::native {

extern const HalfKernels avx512_bf16, amx_bf16;

}  // namespace pf2lora::native
