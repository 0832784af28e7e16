// Numbers rounded to bf16 and laid out for products that take pairs of them. For processors with AVX512_BF16.
#pragma once
#include <immintrin.h>

#include "native/half_tables.h"
#include "native/product.h"

namespace pf2lora::native {

template <class P>
struct HalfNumbers {
  using V = Vector<P, float>;
  static constexpr int64_t kPair = 2, panel = Tiles<P, float>::panel;

  // To nearest, even on a tie, as the processor rounds A.
  static Half rounded(float number) {
    const auto bits = __builtin_bit_cast(uint32_t, number);
    if (number != number) return Half(bits >> 16 | 0x40);  // still not a number
    return Half((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }

  static float number(Half half) { return __builtin_bit_cast(float, uint32_t(half) << 16); }

  static int64_t panels_size(int64_t depth, int64_t columns) {
    return round_up<P>(columns, panel) * round_up<P>(depth, kPair);
  }
  // As HalfKernels::pack_panels: rows of B in pairs, [depth / 2, panel, 2] of each panel after another, 0
  // beyond the last row and column.
  static void pack_panels(const float* from, int64_t from_depth, int64_t from_column, int64_t depth,
                          int64_t columns, Half* to) {
    const int64_t padded = round_up<P>(columns, panel);
    for (int64_t first = 0; first < padded; first += panel)
      for (int64_t k = 0; k < depth; k += kPair)
        for (int64_t column = first; column < first + panel; ++column)
          for (int64_t i = k; i < k + kPair; ++i)
            *to++ = i < depth && column < columns ? rounded(from[i * from_depth + column * from_column])
                                                  : Half(0);
  }

  // `from` [rows, depth] rounded to `to` [rows, to_row], 0 beyond depth; less than 2 vectors of that.
  static void round_rows(const float* from, int64_t from_row, int64_t rows, int64_t depth, Half* to,
                         int64_t to_row) {
    constexpr int64_t step = 2 * V::count;
    for (int64_t i = 0; i < rows; ++i, from += from_row, to += to_row) {
      int64_t k = 0;
      for (; k + step <= depth; k += step) {
        const __m512bh both =
            _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + k + V::count), _mm512_loadu_ps(from + k));
        _mm512_storeu_si512(to + k, (__m512i)both);
      }
      if (k == depth) continue;
      const auto inside = uint32_t((uint64_t(1) << (depth - k)) - 1);
      const auto wanted = uint32_t((uint64_t(1) << (to_row - k)) - 1);
      const __m512 low = _mm512_maskz_loadu_ps(__mmask16(inside), from + k);
      const __m512 high = _mm512_maskz_loadu_ps(__mmask16(inside >> V::count), from + k + V::count);
      _mm512_mask_storeu_epi16(to + k, wanted, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
  }
};

}  // namespace pf2lora::native
