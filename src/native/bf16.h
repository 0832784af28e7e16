// bf16 numbers, of which products take pairs. For processors with AVX512_BF16.
#pragma once
#include <immintrin.h>

#include "native/bf16_tables.h"
#include "native/product.h"

namespace pf2lora::native {

template <class P>
struct Bf16Numbers {
  static constexpr int64_t kPair = 2;

  // To nearest, even on a tie, as the processor rounds A.
  static Bf16 rounded(float number) {
    const auto bits = __builtin_bit_cast(uint32_t, number);
    if (number != number) return Bf16(bits >> 16 | 0x40);  // still not a number
    return Bf16((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }

  static float number(Bf16 bf16) { return __builtin_bit_cast(float, uint32_t(bf16) << 16); }
};

}  // namespace pf2lora::native
