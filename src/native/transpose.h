// Transposes of matrices by square blocks of vectors.
#pragma once
#include "native/vector.h"

namespace pf2lora::native {

template <class P, class T>
struct Transpose {
  using V = Vector<P, T>;
  using Lanes = typename V::Lanes;

  // to [columns, rows] from `from` [rows, columns]; rows of `to` are filled up to whole vectors with any
  // of their numbers.
  static void matrix(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row) {
    for (int64_t i = 0; i < rows; i += V::count)
      for (int64_t j = 0; j < columns; j += V::count)
        block(from + i * from_row + j, from_row, smaller(rows - i), smaller(columns - j), to + j * to_row + i,
              to_row);
  }

 private:
  static int64_t smaller(int64_t n) { return n < V::count ? n : V::count; }

  static void block(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row) {
    constexpr int64_t half = V::count / 2;
    Lanes lines[V::count];
    for (int64_t i = 0; i < V::count; ++i) {
      const T* line = from + (i < rows ? i : rows - 1) * from_row;
      lines[i] = columns == V::count ? V::load(line) : V::load_first(line, columns);
    }
    // Each round interleaves the first half of the lines with the second.
#pragma GCC unroll 4
    for (int64_t round = 1; round < V::count; round *= 2) {
      Lanes mixed[V::count];
#pragma GCC unroll 8
      for (int64_t i = 0; i < half; ++i) {
        mixed[2 * i] = V::permute(lines[i], lines[i + half], interleaved(0));
        mixed[2 * i + 1] = V::permute(lines[i], lines[i + half], interleaved(half));
      }
#pragma GCC unroll 16
      for (int64_t i = 0; i < V::count; ++i) lines[i] = mixed[i];
    }
    if (columns == V::count) {
#pragma GCC unroll 16
      for (int64_t j = 0; j < V::count; ++j) V::store(to + j * to_row, lines[j]);
    } else {
      for (int64_t j = 0; j < columns; ++j) V::store(to + j * to_row, lines[j]);
    }
  }

  // Lanes first, first + 1, ... of two vectors in turn.
  [[gnu::always_inline]] static typename V::Mask interleaved(int64_t first) {
    typename V::Mask at{};
    for (int64_t i = 0; i < V::count; ++i) at[i] = first + i / 2 + (i % 2) * V::count;
    return at;
  }
};

}  // namespace pf2lora::native
