// Sums of products. All terms of a register tile are added before it is written, so a low-rank term beside a
// frozen one costs its own arithmetic and no more.
#pragma once
#include "native/tiles.h"

namespace pf2lora::native {

template <class P, class T>
class Product {
  using V = Vector<P, T>;
  using Lanes = typename V::Lanes;
  using C = Tiles<P, T>;

 public:
  // c [rows, columns] = the sum of `count` terms, on top of what target says.
  static void run(const Term<T>* terms, int64_t count, int64_t rows, int64_t columns,
                  const Target<T>& target) {
    const Sum sum{terms, count, target};
    const int64_t chunks = C::parts(rows, sum.chunk_rows());
    for (int64_t i = 0; i < chunks; ++i) C::run(sum, rows * i / chunks, rows * (i + 1) / chunks, columns);
  }

  // sums += the tile's part of the term.
  template <int height, int vectors>
  [[gnu::always_inline]] static void accumulate(const Term<T>& term, const Tile& tile,
                                                Lanes (&sums)[height][vectors]) {
    const int64_t a_row = term.a_row, a_depth = term.a_depth, b_depth = term.b_depth;
    const T* a = term.a + tile.row * a_row;
    const T* b = term.b + tile.column / C::panel * term.b_panel;
    for (int64_t k = term.depth; k > 0; --k, a += a_depth, b += b_depth) {
      Lanes right[vectors];
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) right[j] = V::load(b + j * V::count);
#pragma GCC unroll 16
      for (int i = 0; i < height; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; ++j) sums[i][j] += a[i * a_row] * right[j];
    }
  }

 private:
  struct Sum {
    const Term<T>* terms;
    int64_t count;
    const Target<T>& target;

    template <int height, int vectors>
    [[gnu::always_inline]] void tile(const Tile& tile) const {
      Lanes sums[height][vectors];
      C::start(target, tile, sums);
      for (const Term<T>* term = terms; term != terms + count; ++term)
        if (term->a != nullptr) accumulate(*term, tile, sums);
      C::finish(target, tile, sums);
    }

    // Rows whose part of A stays in the second-level cache while the panels of B pass.
    int64_t chunk_rows() const {
      constexpr int64_t cached = 400 * 1024 / sizeof(T);
      int64_t depth = 1;
      for (const Term<T>* term = terms; term != terms + count; ++term)
        if (term->a != nullptr) depth += term->depth;
      const int64_t tiles = cached / (depth * P::tile_rows);
      return (tiles > 1 ? tiles : 1) * P::tile_rows;
    }
  };
};

}  // namespace pf2lora::native
