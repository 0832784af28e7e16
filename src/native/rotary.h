// Rotary position embedding: pairs of columns turned by an angle of their row and pair.
#pragma once
#include "native/kernels.h"
#include "native/parts.h"

namespace pf2lora::native {

template <class P, class T>
struct Rotary {
  using V = Vector<P, T>;
  using Lanes = typename V::Lanes;

  static void rotate(const RotaryShape& shape, int64_t rows, const T* in, const T* cosines, const T* sines,
                     bool back, T* out) {
    const int64_t half = shape.half, row = shape.heads * shape.width;
    const T sign = back ? T(-1) : T(1);
    for (int64_t i = 0; i < rows; ++i, cosines += half, sines += half)
      for (int64_t at = i * row; at < (i + 1) * row; at += shape.width) {
        const T *first = in + at, *second = first + half;
        T *to_first = out + at, *to_second = to_first + half;
        along<V>(0, half, [&](const auto& part) {
          const Lanes x = part.load(first), y = part.load(second);
          const Lanes c = part.load(cosines), s = part.load(sines) * sign;
          part.store(to_first, x * c - y * s);
          part.store(to_second, y * c + x * s);
        });
        for (int64_t j = 2 * half; j < shape.width; ++j) out[at + j] = in[at + j];
      }
  }
};

}  // namespace pf2lora::native
