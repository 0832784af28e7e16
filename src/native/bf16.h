// bf16 numbers, of which products take pairs. For processors with AVX512_BF16.
#pragma once
#include <immintrin.h>

#include "native/half_tables.h"
#include "native/product.h"

namespace pf2lora::native {

template <class P>
struct HalfNumbers {
  static constexpr int64_t kPair = 2;

  // To nearest, even on a tie, as the processor rounds A.
  static Half rounded(float number) {
    const auto bits = __builtin_bit_cast(uint32_t, number);
    if (number != number) return Half(bits >> 16 | 0x40);  // still not a number
    return Half((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }

  static float number(Half half) { return __builtin_bit_cast(float, uint32_t(half) << 16); }
};

}  // namespace pf2lora::native
