// Softmax of a long row, such as the scores of a vocabulary.
#pragma once
#include "native/exponential.h"
#include "native/parts.h"

namespace pf2lora::native {

template <class P, class T>
struct Softmax {
  using V = Vector<P, T>;
  using Lanes = typename V::Lanes;

  static T softmax(int64_t count, const T* x, T factor, T* out) {
    Lanes most = V::all(x[0]);
    along<V>(0, count, [&](const auto& part) { most = V::larger(part.inside(part.load(x), x[0]), most); });
    const T largest = V::largest(most);
    const T total = sum(count, [&](const auto& part) {
      const Lanes power = Exponential<P, T>(part.load(x) - largest).value();
      part.store(out, power);
      return part.inside(power);
    });
    const T share = factor / total;
    along<V>(0, count, [&](const auto& part) { part.store(out, part.load(out) * share); });
    return largest + logarithm(total);
  }

  static void softmax_tangent(int64_t count, const T* shares, const T* t_x, T factor, T* out) {
    const T mean = sum(count, [&](const auto& part) { return part.load(shares) * part.load(t_x); });
    along<V>(0, count, [&](const auto& part) {
      part.store(out, part.load(shares) * (part.load(t_x) - mean) * factor);
    });
  }

 private:
  // Of f(part), block by block, so that a long row's sum keeps its digits.
  template <class F>
  [[gnu::always_inline]] static T sum(int64_t count, const F& f) {
    constexpr int64_t block = 64 * V::count;
    Lanes total{};
    for (int64_t begin = 0; begin < count; begin += block) {
      Lanes of_block{};
      along<V>(begin, count - begin < block ? count : begin + block,
               [&](const auto& part) { of_block += f(part); });
      total += of_block;
    }
    return V::sum(total);
  }

  static T logarithm(T x) {
    if constexpr (sizeof(T) == 4)
      return __builtin_logf(x);
    else
      return __builtin_log(x);
  }
};

}  // namespace pf2lora::native
