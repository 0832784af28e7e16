// C cut into register tiles: the sums of a tile stay in registers while everything that is added to it
// passes.
#pragma once
#include <utility>

#include "native/kernels.h"
#include "native/vector.h"

namespace pf2lora::native {

// Rows [row, row + height) of a panel's columns from `column` on: `vectors` (1 or 2) vectors, of the last of
// which `last` lanes are columns of C. It is tile `index` of the panel's `count`.
struct Tile {
  int64_t row, height, column, vectors, last;
  int64_t index, count;
};

// What a product writes to.
template <class T>
struct Target {
  Rows<T> c;
  const T* bias;  // by column; nullptr: 0
  bool add;       // to what is in c
};

template <class P, class T>
struct Tiles {
  using V = Vector<P, T>;
  using Lanes = typename V::Lanes;
  static constexpr int64_t panel = 2 * V::count;

  // Calls sum.template tile<height, vectors>(tile) for the tiles of rows [begin, end), panel by panel. All
  // heights are alike to a row: it takes the same operations in the same order.
  template <class Sum>
  static void run(const Sum& sum, int64_t begin, int64_t end, int64_t columns) {
    for (int64_t column = 0; column < columns; column += panel) run(sum, begin, end, column, columns);
  }
  // Of the panel that begins at `column`.
  template <class Sum>
  static void run(const Sum& sum, int64_t begin, int64_t end, int64_t column, int64_t columns) {
    const int64_t rows = end - begin, tiles = parts(rows, P::tile_rows);
    const int64_t left = columns - column < panel ? columns - column : panel;
    const int64_t vectors = parts(left, V::count), last = left - (vectors - 1) * V::count;
    const int64_t height = rows / tiles, higher = rows % tiles;  // tiles with a row more, which are the first
    const auto& by_height = functions<Sum>[vectors - 1].by_height;
    if (higher > 0) by_height[height](sum, {begin, height + 1, column, vectors, last, 0, tiles}, higher);
    by_height[height - 1](sum, {begin + higher * (height + 1), height, column, vectors, last, higher, tiles},
                          tiles);
  }

  // The sums before anything is added to them: bias and what is in c. Of a c that is only written, the lines
  // are asked for now, so that they are there when the sums are done.
  template <int height, int vectors>
  [[gnu::always_inline]] static void start(const Target<T>& target, const Tile& tile,
                                           Lanes (&sums)[height][vectors]) {
    Lanes bias[vectors] = {};
    if (target.bias != nullptr) read<vectors>(target.bias + tile.column, tile.last, bias);
#pragma GCC unroll 16
    for (int i = 0; i < height; ++i) {
      const T* c = target.c.data + (tile.row + i) * target.c.row + tile.column;
      if (target.add)
        read<vectors>(c, tile.last, sums[i]);
      else
        for (int j = 0; j < vectors; ++j) __builtin_prefetch(c + j * V::count, /*to be written*/ 1);
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) sums[i][j] = target.add ? sums[i][j] + bias[j] : bias[j];
    }
  }

  template <int height, int vectors>
  [[gnu::always_inline]] static void finish(const Target<T>& target, const Tile& tile,
                                            const Lanes (&sums)[height][vectors]) {
#pragma GCC unroll 16
    for (int i = 0; i < height; ++i) {
      T* c = target.c.data + (tile.row + i) * target.c.row + tile.column;
      if (vectors == 2) V::store(c, sums[i][0]);
      if (tile.last == V::count)
        V::store(c + (vectors - 1) * V::count, sums[i][vectors - 1]);
      else
        V::store_first(c + (vectors - 1) * V::count, sums[i][vectors - 1], tile.last);
    }
  }

  static int64_t parts(int64_t whole, int64_t part) {
    return (whole + part - 1) / part;
  }

  // A tile's share of the lines from `start` on of the panel to come, for which the tiles of a panel ask
  // between them: a frozen matrix has left the caches by the time it serves again. One a step of the depth,
  // so that they do not wait for one another.
  class Ahead {
   public:
    Ahead(const Tile& tile, const void* start, int64_t bytes, int64_t steps) {
      if (bytes <= kFew) return;
      const int64_t lines = bytes / kCacheLine, begin = lines * tile.index / tile.count;
      const int64_t share = lines * (tile.index + 1) / tile.count - begin;
      next_ = static_cast<const char*>(start) + begin * kCacheLine;
      steps_ = share < steps ? share : steps;
    }
    int64_t steps() const { return steps_; }
    [[gnu::always_inline]] void ask() {
      __builtin_prefetch(next_, /*to be written*/ 0, /*into the second-level cache*/ 2);
      next_ += kCacheLine;
    }

   private:
    static constexpr int64_t kFew = 8 << 10;
    const char* next_ = nullptr;
    int64_t steps_ = 0;
  };

 private:
  template <int vectors>
  [[gnu::always_inline]] static void read(const T* from, int64_t last, Lanes (&to)[vectors]) {
    if (vectors == 2) to[0] = V::load(from);
    const T* end = from + (vectors - 1) * V::count;
    to[vectors - 1] = last == V::count ? V::load(end) : V::load_first(end, last);
  }

  template <class Sum>
  struct Functions {
    void (*by_height[P::tile_rows])(const Sum& sum, Tile tile, int64_t end);
  };
  // The tiles from `tile` to before `end`, all of one height.
  template <class Sum, int height, int vectors>
  static void call(const Sum& sum, Tile tile, int64_t end) {
    for (; tile.index < end; ++tile.index, tile.row += height) sum.template tile<height, vectors>(tile);
  }
  template <class Sum, int vectors, int... below>
  static constexpr Functions<Sum> functions_of(std::integer_sequence<int, below...>) {
    return {{call<Sum, below + 1, vectors>...}};
  }
  using Below = std::make_integer_sequence<int, P::tile_rows>;
  template <class Sum>
  static constexpr Functions<Sum> functions[2] = {functions_of<Sum, 1>(Below()),
                                                  functions_of<Sum, 2>(Below())};
};

}  // namespace pf2lora::native
