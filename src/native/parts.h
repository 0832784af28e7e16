// A row in vectors: whole ones, and what is left at its end.
#pragma once
#include "native/vector.h"

namespace pf2lora::native {

// The same code is written for both kinds of part.
template <class V>
struct WholePart {
  using T = typename V::Number;
  int64_t at;
  [[gnu::always_inline]] typename V::Lanes load(const T* row) const { return V::load(row + at); }
  [[gnu::always_inline]] void store(T* row, typename V::Lanes lanes) const { V::store(row + at, lanes); }
  // The lanes that are in the row; the others become `outside`.
  [[gnu::always_inline]] typename V::Lanes inside(typename V::Lanes lanes, T = 0) const { return lanes; }
};
template <class V>
struct LastPart {
  using T = typename V::Number;
  int64_t at, n;
  [[gnu::always_inline]] typename V::Lanes load(const T* row) const { return V::load_first(row + at, n); }
  [[gnu::always_inline]] void store(T* row, typename V::Lanes lanes) const {
    V::store_first(row + at, lanes, n);
  }
  [[gnu::always_inline]] typename V::Lanes inside(typename V::Lanes lanes, T outside = 0) const {
    return V::first(n) ? lanes : V::all(outside);
  }
};

// Calls f with the parts of the row's numbers [begin, end).
template <class V, class F>
[[gnu::always_inline]] inline void along(int64_t begin, int64_t end, const F& f) {
  int64_t at = begin;
  for (; at + V::count <= end; at += V::count) f(WholePart<V>{at});
  if (at < end) f(LastPart<V>{at, end - at});
}

}  // namespace pf2lora::native
