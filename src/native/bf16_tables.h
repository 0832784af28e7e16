// Tables of products in bf16 for kinds of processors: constants, defined in the file of the kind.
#pragma once
#include "native/kernels.h"

namespace pf2lora::native {

extern const Bf16Kernels avx512_bf16, amx_bf16, amx_bf16x3;

}  // namespace pf2lora::native
