// x86-64 with AVX512_BF16: VDPBF16PS adds the products of 16 pairs of bf16 numbers to 16 sums.
#include "native/bf16.h"

namespace pf2lora::native {
namespace {

struct Avx512Bf16 {
  static constexpr int64_t bytes = 64, tile_rows = 12;
};
using V = Vector<Avx512Bf16, float>;
using C = Tiles<Avx512Bf16, float>;
using Numbers = Bf16Numbers<Avx512Bf16>;

constexpr int64_t kPair = Numbers::kPair;
constexpr int64_t kChunkRows = 8 * Avx512Bf16::tile_rows;  // of A, converted at a time

int64_t whole_pairs(int64_t depth) {
  return round_up<Avx512Bf16>(depth, kPair);
}

int64_t scratch(int64_t rows, int64_t depth) {
  return (rows < kChunkRows ? rows : kChunkRows) * whole_pairs(depth) / kPair;
}

int64_t panels_size(int64_t depth, int64_t columns) {
  return round_up<Avx512Bf16>(columns, C::panel) * whole_pairs(depth);
}

// Rows of B in pairs, [depth / 2, panel, 2] of each panel after another, 0 beyond the last row and column.
void pack_panels(const float* from, int64_t from_depth, int64_t from_column, int64_t depth, int64_t columns,
                 Bf16* to) {
  const int64_t padded = round_up<Avx512Bf16>(columns, C::panel);
  for (int64_t first = 0; first < padded; first += C::panel)
    for (int64_t k = 0; k < depth; k += kPair)
      for (int64_t column = first; column < first + C::panel; ++column)
        for (int64_t i = k; i < k + kPair; ++i)
          *to++ = i < depth && column < columns
                      ? Numbers::rounded(from[i * from_depth + column * from_column])
                      : Bf16(0);
}

// `from` [rows, depth] rounded to `to` [rows, to_row], 0 beyond depth; less than 2 vectors of that.
void round_rows(const float* from, int64_t from_row, int64_t rows, int64_t depth, Bf16* to, int64_t to_row) {
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

struct Bf16Sum {
  const Bf16* a;  // rows [first, ...) of A, rounded
  int64_t first, pairs;
  const Bf16Term& bf16;
  const Term<float>* terms;
  int64_t count;
  const Target<float>& target;

  template <int height, int vectors>
  [[gnu::always_inline]] void tile(const Tile& tile) const {
    V::Lanes sums[height][vectors];
    C::start(target, tile, sums);
    const int64_t a_row = pairs * kPair;
    const Bf16* left = a + (tile.row - first) * a_row;
    const Bf16* right = bf16.b + tile.column * a_row;
    C::Ahead ahead(tile, right + pairs * kPair * C::panel, pairs * kPair * C::panel * int64_t(sizeof(Bf16)),
                   pairs);
    for (int64_t k = ahead.steps(); k > 0; --k, left += kPair, right += kPair * C::panel) {
      ahead.ask();
      add_outer(left, a_row, right, sums);
    }
    for (int64_t k = pairs - ahead.steps(); k > 0; --k, left += kPair, right += kPair * C::panel)
      add_outer(left, a_row, right, sums);
    for (const Term<float>* term = terms; term != terms + count; ++term)
      if (term->a != nullptr) Product<Avx512Bf16, float>::accumulate(*term, tile, sums);
    C::finish(target, tile, sums);
  }

 private:
  // sums += a pair of columns of A's rows times a pair of rows of B.
  template <int height, int vectors>
  [[gnu::always_inline]] static void add_outer(const Bf16* left, int64_t a_row, const Bf16* right,
                                               V::Lanes (&sums)[height][vectors]) {
    __m512bh b[vectors];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j) b[j] = (__m512bh)_mm512_loadu_si512(right + j * kPair * V::count);
#pragma GCC unroll 16
    for (int i = 0; i < height; ++i) {
      const auto both = (__m512bh)_mm512_set1_epi32(int(_mm_cvtsi128_si32(_mm_loadu_si32(left + i * a_row))));
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j)
        sums[i][j] = (V::Lanes)_mm512_dpbf16_ps((__m512)sums[i][j], both, b[j]);
    }
  }
};

void product(const Bf16Term& bf16, std::span<const Term<float>> terms, int64_t rows, int64_t columns,
             Rows<float> c, const float* bias, bool add, float* memory) {
  const Target<float> target{c, bias, add};
  auto* rounded_rows = reinterpret_cast<Bf16*>(memory);  // only vector loads and stores, which may alias
  for (int64_t begin = 0; begin < rows; begin += kChunkRows) {
    const int64_t end = begin + kChunkRows < rows ? begin + kChunkRows : rows;
    round_rows(bf16.a + begin * bf16.a_row, bf16.a_row, end - begin, bf16.depth, rounded_rows,
               whole_pairs(bf16.depth));
    const Bf16Sum sum{rounded_rows,          begin, whole_pairs(bf16.depth) / kPair, bf16, terms.data(),
                      int64_t(terms.size()), target};
    C::run(sum, begin, end, columns);
  }
}

}  // namespace

constinit const Bf16Kernels avx512_bf16{"bf16", panels_size, pack_panels, scratch, product};

}  // namespace pf2lora::native
