// Frozen matrices as right-hand side of products: in numbers of T, or rounded to bf16.
#pragma once
#include <algorithm>
#include <array>
#include <initializer_list>
#include <type_traits>

#include "native/graph.h"

namespace pf2lora::native {

enum class Storage { full, bf16 };  // bf16: where the kernels have product_half

// W [depth, columns] in panels of one kind or the other; without either it is 0.
template <class T>
struct FrozenMatrix {
  PackedMatrix<T> full;
  Numbers<Half> half;
  int64_t depth = 0;
};

// Element (k, j) at from[k * from_depth + j * from_column].
template <class T>
FrozenMatrix<T> freeze(const Kernels<T>& kernels, Storage storage, const T* from, int64_t from_depth,
                       int64_t from_column, int64_t depth, int64_t columns) {
  if (storage == Storage::full) {
    Pool<T> pool;
    return {pack(kernels, pool, from, from_depth, from_column, depth, columns), nullptr, depth};
  }
  Pool<Half> pool;
  FrozenMatrix<T> frozen{{}, pool.take(kernels.half_panels_size(depth, columns)), depth};
  kernels.pack_panels_half(from, from_depth, from_column, depth, columns, frozen.half.get());
  return frozen;
}

// c [rows, columns] = a [rows, depth] frozen + the other terms + bias (nullptr: 0) + c where `add` says so; a
// may be nullptr: 0. With a frozen matrix in bf16, a is rounded to bf16 too; sums are in T throughout.
template <class T>
void product(const Pass<T>& pass, const FrozenMatrix<T>& frozen, const T* a, int64_t a_row,
             std::initializer_list<Term<T>> others, int64_t rows, int64_t columns, Rows<T> c,
             const std::type_identity_t<T>* bias, bool add) {
  const Kernels<T>& kernels = pass.kernels;
  if (frozen.half != nullptr && a != nullptr) {
    const Numbers<T> scratch = pass.pool.take(kernels.half_scratch(rows, frozen.depth));
    const HalfTerm<T> term{a, a_row, frozen.depth, frozen.half.get(),
                           kernels.half_panels_size(frozen.depth, kernels.panel)};
    kernels.product_half(term, {others.begin(), others.size()}, rows, columns, c, bias, add, scratch.get());
    return;
  }
  constexpr size_t kMost = 4;
  std::array<Term<T>, kMost> terms{frozen.full.times(a, a_row, kernels.panel)};
  std::copy(others.begin(), others.end(), terms.begin() + 1);
  kernels.product(std::span(terms).first(1 + others.size()), rows, columns, c, bias, add);
}

}  // namespace pf2lora::native
