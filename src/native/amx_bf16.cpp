// x86-64 with AMX_BF16: TDPBF16PS adds to a tile of 16 x 16 sums the product of 16 rows of 32 bf16 numbers
// with 16 pairs of rows of 16 columns (Intel 64 and IA-32 Architectures Software Developer's Manual, volume
// 2).
#include "native/half.h"

namespace pf2lora::native {
namespace {

struct AmxBf16 {
  static constexpr int64_t bytes = 64, tile_rows = 12;
};
using V = Vector<AmxBf16, float>;
using C = Tiles<AmxBf16, float>;
using Numbers = HalfNumbers<AmxBf16>;

constexpr int64_t kPair = Numbers::kPair, kPanel = C::panel;
constexpr int64_t kTile = 16;              // rows of a tile, each of 64 bytes
constexpr int64_t kDepth = kTile * kPair;  // of a tile of A or B
constexpr int64_t kChunkRows = 6 * kTile;  // of A, converted at a time

int64_t padded(int64_t depth) {
  return round_up<AmxBf16>(depth, kDepth);
}
int64_t chunk(int64_t rows) {
  return rows < kChunkRows ? round_up<AmxBf16>(rows, kTile) : kChunkRows;
}

// Rounded rows of A, and their products with one panel of B.
int64_t scratch(int64_t rows, int64_t depth) {
  return chunk(rows) * (padded(depth) / kPair + kPanel);
}

struct TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {kTile, kTile, kTile, kTile, kTile, kTile, kTile, kTile};
};
static_assert(sizeof(TileShapes) == 64);

// Tiles 0 to 3 are sums, 4 and 5 rows of A above each other, 6 and 7 columns of B side by side.
template <bool both>
[[gnu::always_inline]] inline void multiply(const Half* a, int64_t a_row, const Half* b) {
  _tile_loadd(6, b, kPanel * kPair * sizeof(Half));
  _tile_loadd(7, b + kTile * kPair, kPanel * kPair * sizeof(Half));
  _tile_loadd(4, a, a_row * int64_t(sizeof(Half)));
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if constexpr (both) {
    _tile_loadd(5, a + kTile * a_row, a_row * int64_t(sizeof(Half)));
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

// The last rows of a panel of B, fewer than a tile holds, in a whole one.
struct LastPairs {
  alignas(64) Half numbers[kTile * kPanel * kPair] = {};
  LastPairs(const Half* b, int64_t pairs) {
    for (int64_t i = 0; i < pairs * kPanel * kPair; ++i) numbers[i] = b[i];
  }
};

// `sums` [16 or, for both, 32 rows, panel] = rows of A [., a_row], a_row in whole tiles, times a panel of B.
template <bool both>
void panel_sums(const Half* a, int64_t a_row, const Half* b, int64_t pairs, const LastPairs& last,
                float* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  int64_t pair = 0;
  for (; pair + kTile <= pairs; pair += kTile)
    multiply<both>(a + pair * kPair, a_row, b + pair * kPanel * kPair);
  if (pair < pairs) multiply<both>(a + pair * kPair, a_row, last.numbers);
  constexpr int64_t row = kPanel * sizeof(float);
  _tile_stored(0, sums, row);
  _tile_stored(1, sums + kTile, row);
  if constexpr (both) {
    _tile_stored(2, sums + kTile * kPanel, row);
    _tile_stored(3, sums + kTile * kPanel + kTile, row);
  }
}

// What the tiles have summed, with all that is added to it.
struct Rest {
  const float* sums;  // of rows [first, ...), a panel wide
  int64_t first;
  std::span<const Term<float>> terms;
  const Target<float>& target;

  template <int height, int vectors>
  [[gnu::always_inline]] void tile(const Tile& tile) const {
    V::Lanes all[height][vectors];
    C::start(target, tile, all);
#pragma GCC unroll 16
    for (int i = 0; i < height; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j)
        all[i][j] += V::load(sums + (tile.row + i - first) * kPanel + j * V::count);
    for (const Term<float>& term : terms)
      if (term.a != nullptr) Product<AmxBf16, float>::accumulate(term, tile, all);
    C::finish(target, tile, all);
  }
};

void product(const HalfTerm& half, std::span<const Term<float>> terms, int64_t rows, int64_t columns,
             Rows<float> c, const float* bias, bool add, float* memory) {
  const Target<float> target{c, bias, add};
  const int64_t a_row = padded(half.depth), pairs = (half.depth + 1) / kPair;
  auto* const a = reinterpret_cast<Half*>(memory);  // only vector loads and stores, which may alias
  float* const sums = memory + chunk(rows) * a_row / kPair;
  const TileShapes shapes;
  _tile_loadconfig(&shapes);
  for (int64_t begin = 0; begin < rows; begin += kChunkRows) {
    const int64_t end = begin + kChunkRows < rows ? begin + kChunkRows : rows;
    Numbers::round_rows(half.a + begin * half.a_row, half.a_row, end - begin, half.depth, a, a_row);
    for (int64_t column = 0; column < columns; column += kPanel) {
      const Half* b = half.b + column / kPanel * half.b_panel;
      const int64_t whole = pairs / kTile * kTile;
      const LastPairs last(b + whole * kPanel * kPair, pairs - whole);
      for (int64_t row = 0; row < end - begin; row += 2 * kTile) {
        const auto some = end - begin - row > kTile ? panel_sums<true> : panel_sums<false>;
        some(a + row * a_row, a_row, b, pairs, last, sums + row * kPanel);
      }
      C::run(Rest{sums, begin, terms, target}, begin, end, column, columns);
    }
  }
  _tile_release();
}

}  // namespace

constinit const HalfKernels amx_bf16{"amx bf16", Numbers::pack_panels, scratch, product};

}  // namespace pf2lora::native
