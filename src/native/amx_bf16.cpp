// x86-64 with AMX_BF16: TDPBF16PS adds to a tile of 16 x 16 sums the product of 16 rows of 32 bf16 numbers
// with 16 pairs of rows of 16 columns (Intel 64 and IA-32 Architectures Software Developer's Manual, volume
// 2).
//
// A float is the sum of three bf16 numbers. Of the nine products of the parts of two floats, the six larger
// ones make theirs to about 2^-24 (Henry, Tang and Heinecke 2019, arXiv 1904.06376).
#include "native/bf16.h"

namespace pf2lora::native {
namespace {

struct AmxBf16 {
  static constexpr int64_t bytes = 64, tile_rows = 12;
};
using V = Vector<AmxBf16, float>;
using C = Tiles<AmxBf16, float>;
using Numbers = Bf16Numbers<AmxBf16>;

constexpr int64_t kPair = Numbers::kPair, kPanel = C::panel;
constexpr int64_t kTile = 16;              // rows of a tile, each of 64 bytes
constexpr int64_t kDepth = kTile * kPair;  // of a tile of A or B

struct TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {kTile, kTile, kTile, kTile, kTile, kTile, kTile, kTile};
};
static_assert(sizeof(TileShapes) == 64);

// Which part of a number of A meets which of one of B, 0 the largest. Neighbours share one.
struct Meeting {
  int a, b;
};
template <int parts>
constexpr Meeting kMeetings[parts == 1 ? 1 : 6] = {{0, 0}};
template <>
constexpr Meeting kMeetings<3>[] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 0}, {0, 2}};

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

// Products of numbers cut into so many parts.
template <int parts>
struct Amx {
  // Of A, 16 rows: [parts, 16, 32] of each 32 of the depth. Of B, a panel: [parts, 16 pairs, panel, 2].
  static constexpr int64_t kBlockA = parts * kTile * kDepth, kBlockB = parts * kDepth * kPanel;
  // What of A stands in the second-level cache while panels of B pass.
  static constexpr int64_t kChunkRows = 256, kChunkBlocks = 48 / parts;

  static int64_t blocks_of(int64_t depth) { return C::parts(depth, kDepth); }

  static int64_t panels_size(int64_t depth, int64_t columns) {
    return C::parts(columns, kPanel) * blocks_of(depth) * kBlockB;
  }

  static void pack_panels(const float* from, int64_t from_depth, int64_t from_column, int64_t depth,
                          int64_t columns, Bf16* to) {
    for (int64_t first = 0; first < columns; first += kPanel)
      for (int64_t begin = 0; begin < depth; begin += kDepth, to += kBlockB)
        for (int64_t i = 0; i < kDepth; ++i)
          for (int64_t j = 0; j < kPanel; ++j) {
            const int64_t k = begin + i, column = first + j;
            float rest = k < depth && column < columns ? from[k * from_depth + column * from_column] : 0;
            for (int part = 0; part < parts; ++part) {
              const Bf16 own = Numbers::rounded(rest);
              to[((part * kTile + i / kPair) * kPanel + j) * kPair + i % kPair] = own;
              rest -= Numbers::number(own);
            }
          }
  }

  // A chunk of A, and a block of sums.
  static int64_t scratch(int64_t rows, int64_t depth) {
    const int64_t tiles = C::parts(rows < kChunkRows ? rows : kChunkRows, kTile);
    const int64_t blocks = blocks_of(depth) < kChunkBlocks ? blocks_of(depth) : kChunkBlocks;
    return tiles * blocks * kBlockA / kPair + 2 * kTile * kPanel;
  }

  // `rows` of A from `from` on, at most kChunkRows, as blocks of 16 rows: those of a tile after one another.
  static void cut_rows(const float* from, int64_t from_row, int64_t rows, int64_t depth, Bf16* to) {
    const int64_t blocks = blocks_of(depth);
    for (int64_t i = 0; i < rows; ++i, from += from_row) {
      Bf16* own = to + i / kTile * blocks * kBlockA + i % kTile * kDepth;
      for (int64_t k = 0; k < depth; k += kDepth, own += kBlockA) {
        const auto inside = depth - k < kDepth ? uint32_t((uint64_t(1) << (depth - k)) - 1) : ~uint32_t(0);
        cut(_mm512_maskz_loadu_ps(__mmask16(inside), from + k),
            _mm512_maskz_loadu_ps(__mmask16(inside >> V::count), from + k + V::count), own);
      }
    }
  }
  // 32 numbers. All parts but the last are rounded to nearest, and that is exact: 3 parts of 8 bits.
  [[gnu::always_inline]] static void cut(__m512 low, __m512 high, Bf16* to) {
#pragma GCC unroll 3
    for (int part = 0; part < parts; ++part, to += kTile * kDepth) {
      const __m512 own_low = part + 1 < parts ? nearest(low) : low;
      const __m512 own_high = part + 1 < parts ? nearest(high) : high;
      _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(own_high, own_low));
      low -= own_low;
      high -= own_high;
    }
  }
  [[gnu::always_inline]] static __m512 nearest(__m512 numbers) {
    const __m512i half_a_unit = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(int(0xffff0000));
    return (__m512)_mm512_and_si512(_mm512_add_epi32((__m512i)numbers, half_a_unit), upper);
  }

  // Tiles 0 to 3 are sums, 4 and 5 rows of A above each other (for both), 6 and 7 columns of B side by side.
  template <bool both>
  [[gnu::always_inline]] static void multiply(const Bf16* a, const Bf16* below, const Bf16* b) {
    int own_a = -1, own_b = -1;
#pragma GCC unroll 6
    for (const Meeting& meeting : kMeetings<parts>) {
      if (meeting.b != own_b) {
        own_b = meeting.b;
        const Bf16* from = b + own_b * kDepth * kPanel;
        _tile_loadd(6, from, kPanel * kPair * sizeof(Bf16));
        _tile_loadd(7, from + kTile * kPair, kPanel * kPair * sizeof(Bf16));
      }
      if (meeting.a != own_a) {
        own_a = meeting.a;
        _tile_loadd(4, a + own_a * kTile * kDepth, kDepth * sizeof(Bf16));
        if constexpr (both) _tile_loadd(5, below + own_a * kTile * kDepth, kDepth * sizeof(Bf16));
      }
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (both) {
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
  }

  // What will be needed next, of which each of the blocks of a sum asks for a share: `rows` of c, and lines
  // [begin, end) of each block of the panel that follows.
  struct Ahead {
    Rows<float> c;
    int64_t rows;
    const Bf16* panel;
    int64_t begin, end;
  };

  // `sums` [16 or, for both, 32 rows, panel] = so many blocks of A times those of a panel of B.
  template <bool both>
  static void sum(const Bf16* a, const Bf16* b, int64_t blocks, Ahead ahead, float* sums) {
    const Bf16* below = a + blocks * kBlockA;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < blocks; ++i, a += kBlockA, below += kBlockA, b += kBlockB) {
      for (int64_t left = C::parts(ahead.rows, blocks); left > 0; --left, ahead.c.data += ahead.c.row) {
        __builtin_prefetch(ahead.c.data, /*to be written*/ 1);
        __builtin_prefetch(ahead.c.data + V::count, 1);
      }
      for (int64_t line = ahead.begin; line < ahead.end; ++line)
        __builtin_prefetch(ahead.panel + line * kLine, 0, /*into the second-level cache*/ 2);
      ahead.panel += kBlockB;
      multiply<both>(a, below, b);
    }
    constexpr int64_t row = kPanel * sizeof(float);
    _tile_stored(0, sums, row);
    _tile_stored(1, sums + kTile, row);
    if constexpr (both) {
      _tile_stored(2, sums + kTile * kPanel, row);
      _tile_stored(3, sums + kTile * kPanel + kTile, row);
    }
  }

  static void product(const Bf16Term& bf16, std::span<const Term<float>> terms, int64_t rows, int64_t columns,
                      Rows<float> c, const float* bias, bool add, float* memory) {
    const TileShapes shapes;
    _tile_loadconfig(&shapes);
    const int64_t blocks = blocks_of(bf16.depth);
    for (int64_t begin = 0; begin < rows; begin += kChunkRows) {
      const int64_t end = begin + kChunkRows < rows ? begin + kChunkRows : rows;
      int64_t block = 0;
      do {  // once where there is no depth
        const int64_t some = blocks - block < kChunkBlocks ? blocks - block : kChunkBlocks;
        const bool first = block == 0;
        chunk(bf16, block, some, first ? terms : std::span<const Term<float>>(), begin, end, columns,
              first ? Target<float>{c, bias, add} : Target<float>{c, nullptr, true}, memory);
        block += some;
      } while (block < blocks);
    }
    _tile_release();
  }

 private:
  static constexpr int64_t kLine = 64 / sizeof(Bf16);  // of a cache

  // Rows [begin, end), at most kChunkRows, with so many blocks of the depth from `block` on.
  static void chunk(const Bf16Term& bf16, int64_t block, int64_t blocks, std::span<const Term<float>> terms,
                    int64_t begin, int64_t end, int64_t columns, const Target<float>& target, float* memory) {
    auto* const sums = memory;
    auto* const a = reinterpret_cast<Bf16*>(memory + 2 * kTile * kPanel);  // only vectors and tiles read it
    const int64_t first = block * kDepth, panel = blocks_of(bf16.depth) * kBlockB;
    const int64_t depth = blocks * kDepth < bf16.depth - first ? blocks * kDepth : bf16.depth - first;
    cut_rows(bf16.a + begin * bf16.a_row + first, bf16.a_row, end - begin, depth, a);
    const int64_t steps = C::parts(end - begin, 2 * kTile);
    const Bf16* b = bf16.b + block * kBlockB;
    for (int64_t column = 0; column < columns; column += kPanel, b += panel)
      for (int64_t step = 0; step < steps; ++step) {
        const int64_t row = begin + step * 2 * kTile, left = end - row;
        const int64_t high = left < 2 * kTile ? left : 2 * kTile;
        constexpr int64_t lines = kBlockB / kLine;
        const auto some = high > kTile ? sum<true> : sum<false>;
        some(a + 2 * step * blocks * kBlockA, b, blocks,
             {{target.c.data + row * target.c.row + column, target.c.row},
              high,
              b + panel,
              lines * step / steps,
              lines * (step + 1) / steps},
             sums);
        C::run(Rest{sums, row, terms, target}, row, row + high, column, columns);
      }
  }
};

template <int parts>
constexpr Bf16Kernels table(const char* name) {
  using Own = Amx<parts>;
  return {name, Own::panels_size, Own::pack_panels, Own::scratch, Own::product};
}

}  // namespace

constinit const Bf16Kernels amx_bf16 = table<1>("amx bf16");
constinit const Bf16Kernels amx_bf16x3 = table<3>("amx bf16x3");

}  // namespace pf2lora::native
