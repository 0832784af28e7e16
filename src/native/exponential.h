// e^x of vectors. The standard library's has no vector form without -ffast-math, which would also give up
// the checks for numbers that are not finite.
#pragma once
#include "native/vector.h"

namespace pf2lora::native {

// e^x = scale + scale * rest with scale a power of two, |rest| < 0.42: for x <= 0; below `lowest` as if it
// were there. Relative error below 2 units in the last place, of both e^x and e^x - 1.
template <class P, class T>
struct Exponential {
  using V = Vector<P, T>;
  using Lanes = typename V::Lanes;

  Lanes scale, rest;

  [[gnu::always_inline]] explicit Exponential(Lanes x) {
    x = x < lowest ? V::all(lowest) : x;  // what is not a number stays so
    // Adding `shift` to a small number rounds it to an integer and leaves that in the low bits.
    const Lanes shifted = x * log2_e + shift;
    const Lanes power = shifted - shift;
    const Lanes r = (x - power * ln2_high) - power * ln2_low;  // |r| <= ln 2 / 2
    const auto exponent = reinterpret_cast<typename V::Mask>(shifted) - shift_bits + bias;
    scale = reinterpret_cast<Lanes>(exponent << mantissa_bits);
    // e^r - 1 = r + r^2/2! + r^3/3! + ...
    Lanes sum = V::all(series.terms[degree]);
#pragma GCC unroll 16
    for (int n = degree - 1; n >= 2; --n) sum = sum * r + series.terms[n];
    rest = sum * (r * r) + r;
  }

  [[gnu::always_inline]] Lanes value() const {
    return scale * rest + scale;
  }
  [[gnu::always_inline]] Lanes value_less_one() const {
    return scale * rest + (scale - 1);
  }

 private:
  static constexpr bool single = sizeof(T) == 4;
  static constexpr int degree = single ? 7 : 13;
  static constexpr int mantissa_bits = single ? 23 : 52;
  using Integer = typename V::Integer;
  static constexpr Integer bias = single ? 127 : 1023;
  static constexpr T lowest = single ? T(-87) : T(-708);
  static constexpr T shift = single ? T(0x1.8p23) : T(0x1.8p52);
  static constexpr Integer shift_bits = single ? Integer(0x4b400000) : Integer(0x4338000000000000);
  static constexpr T log2_e = T(1.4426950408889634);
  // ln 2 in two parts; the first has so few bits that its products with exponents are exact.
  static constexpr T ln2_high = single ? T(0x1.62e4p-1) : T(0x1.62e42feep-1);
  static constexpr T ln2_low = single ? T(0x1.7f7d1cp-20) : T(0x1.a39ef35793c76p-33);

  struct Series {
    T terms[degree + 1];  // 1 / n!
    constexpr Series() : terms{1} {
      double factorial = 1;
      for (int n = 1; n <= degree; ++n) terms[n] = T(1 / (factorial *= n));
    }
  };
  static constexpr Series series{};
};

}  // namespace pf2lora::native
