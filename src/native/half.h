// Products of float32 activations, rounded to bf16 on the way, with a right side in bf16; sums in float32.
// For processors that multiply pairs of such numbers and add them in one instruction.
#pragma once
#include <span>

#include "native/kernels.h"

namespace pf2lora::native {

// The entries of Kernels<float> with "half" in their names; constants, defined in avx512_bf16.cpp.
struct HalfKernels {
  decltype(Kernels<float>::pack_panels_half) pack_panels_half;
  decltype(Kernels<float>::half_scratch) half_scratch;
  decltype(Kernels<float>::product_half) product_half;
};

extern const HalfKernels avx512_bf16;

}  // namespace pf2lora::native
