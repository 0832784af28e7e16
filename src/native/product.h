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
  // c [rows, columns] = the sum of `count` terms, on top of what target says. A very deep sum is made a part
  // of its depth at a time, each on top of what stands in c, so that a block of A, one of c and a panel of B
  // stay in the second-level cache together. No bit depends on it.
  static void run(const Term<T>* terms, int64_t count, int64_t rows, int64_t columns,
                  const Target<T>& target) {
    if (rows == 0) return;
    int64_t depth = 0;
    for (const Term<T>* term = terms; term != terms + count; ++term) depth += depth_of(*term);
    const int64_t parts = depth > deep ? C::parts(depth, deep / 2) : 1;
    const int64_t chunks = C::parts(rows, chunk_rows(depth / parts));
    const int64_t broad =
        parts == 1 ? columns : C::parts(cached, C::parts(rows, chunks) * C::panel) * C::panel;
    for (int64_t i = 0; i < chunks; ++i)
      for (int64_t left = 0; left < columns; left += broad)
        for (int64_t part = 0; part < parts; ++part) {
          Term<T> cut[kMostTerms];
          const int64_t used = slice(terms, count, depth * part / parts, depth * (part + 1) / parts, cut);
          const Sum sum{cut, used, part == 0 ? target : Target<T>{target.c, nullptr, /*add=*/true}};
          const int64_t right = left + broad < columns ? left + broad : columns;
          for (int64_t column = left; column < right; column += C::panel)
            C::run(sum, rows * i / chunks, rows * (i + 1) / chunks, column, columns);
        }
  }

  // sums += the tile's part of the term.
  template <int height, int vectors>
  [[gnu::always_inline]] static void accumulate(const Term<T>& term, const Tile& tile,
                                                Lanes (&sums)[height][vectors]) {
    const T* a = term.a + tile.row * term.a_row;
    const T* b = term.b + tile.column / C::panel * term.b_panel;
    const int64_t a_row = term.a_row, a_depth = term.a_depth, b_depth = term.b_depth;
    const int64_t bytes = b_depth == C::panel ? term.depth * C::panel * int64_t(sizeof(T)) : 0;
    typename C::Ahead ahead(tile, b + term.b_panel, bytes, term.depth);
    int64_t left = term.depth - ahead.steps();
    // Unrolled, as the loops' own instructions cost a twentieth on processors without AVX-512.
#pragma GCC unroll 2
    for (int64_t k = ahead.steps(); k > 0; --k, a += a_depth, b += b_depth) {
      ahead.ask();
      add_outer(a, a_row, b, sums);
    }
    // Where the rows of A are read for the first time, it asks for those of the next tile.
    if (tile.column == 0 && a_depth == 1) {
      constexpr int64_t line = kCacheLine / int64_t(sizeof(T));
      for (const T* next = term.a + (tile.row + height) * a_row; left >= line; left -= line, next += line) {
#pragma GCC unroll 16
        for (int i = 0; i < height; ++i)
          __builtin_prefetch(next + i * a_row, /*to be written*/ 0, /*into the second-level cache*/ 2);
#pragma GCC unroll 4
        for (int64_t k = line; k > 0; --k, ++a, b += b_depth) add_outer(a, a_row, b, sums);
      }
    }
#pragma GCC unroll 4
    for (; left > 0; --left, a += a_depth, b += b_depth) add_outer(a, a_row, b, sums);
  }

 private:
  static constexpr int64_t cached = 400 * 1024 / sizeof(T);             // numbers of a block
  static constexpr int64_t deep = 128 * 1024 / (C::panel * sizeof(T));  // rows of a panel of B

  // sums += a column of A's rows times a row of B.
  template <int height, int vectors>
  [[gnu::always_inline]] static void add_outer(const T* a, int64_t a_row, const T* b,
                                               Lanes (&sums)[height][vectors]) {
    Lanes right[vectors];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j) right[j] = V::load(b + j * V::count);
#pragma GCC unroll 16
    for (int i = 0; i < height; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) sums[i][j] += a[i * a_row] * right[j];
  }

  // Rows whose part of A stays in the second-level cache while the panels of B pass.
  static int64_t chunk_rows(int64_t depth) {
    const int64_t tiles = cached / ((depth + 1) * P::tile_rows);
    return (tiles > 1 ? tiles : 1) * P::tile_rows;
  }

  static int64_t depth_of(const Term<T>& term) {
    return term.a == nullptr ? 0 : term.depth;
  }

  // The terms within [begin, end) of their depths, one after another; returns how many.
  static int64_t slice(const Term<T>* terms, int64_t count, int64_t begin, int64_t end, Term<T>* cut) {
    int64_t used = 0;
    for (const Term<T>* term = terms; term != terms + count; ++term) {
      const int64_t depth = depth_of(*term), from = begin > 0 ? begin : 0, to = end < depth ? end : depth;
      if (from < to) {
        cut[used] = *term;
        cut[used].a += from * term->a_depth;
        cut[used].b += from * term->b_depth;
        cut[used++].depth = to - from;
      }
      begin -= depth;
      end -= depth;
    }
    return used;
  }

  struct Sum {
    const Term<T>* terms;
    int64_t count;
    const Target<T> target;

    template <int height, int vectors>
    [[gnu::always_inline]] void tile(const Tile& tile) const {
      Lanes sums[height][vectors];
      C::start(target, tile, sums);
      for (const Term<T>* term = terms; term != terms + count; ++term)
        if (term->a != nullptr) accumulate(*term, tile, sums);
      C::finish(target, tile, sums);
    }
  };
};

}  // namespace pf2lora::native
