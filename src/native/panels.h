// The right side of products, copied to where the register tiles read it in one sweep.
#pragma once
#include "native/product.h"
#include "native/transpose.h"

namespace pf2lora::native {

// `to` [depth, panel] of each panel after another, 0 beyond the last column. See Kernels::pack_panels.
template <class P, class T>
void pack_panels(const T* from, int64_t from_depth, int64_t from_column, int64_t depth, int64_t columns,
                 T* to) {
  constexpr int64_t panel = Tiles<P, T>::panel;
  for (int64_t column = 0; column < columns; column += panel, to += depth * panel) {
    const T* own = from + column * from_column;
    const int64_t width = columns - column < panel ? columns - column : panel;
    if (from_depth == 1)
      Transpose<P, T>::matrix(own, from_column, width, depth, to, panel);
    else
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t j = 0; j < width; ++j) to[k * panel + j] = own[k * from_depth + j * from_column];
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t j = width; j < panel; ++j) to[k * panel + j] = 0;
  }
}

}  // namespace pf2lora::native
