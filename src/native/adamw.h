// AdamW on a row of parameters.
#pragma once
#include "native/elementwise.h"
#include "native/kernels.h"

namespace pf2lora::native {

template <class P, class T>
struct Adamw {
  using V = Vector<P, T>;
  using Lanes = typename V::Lanes;
  static constexpr int reads = 4, writes = 3;
  T decay, new1, beta2, new2, size, inverse_root, epsilon;

  // gradient, row, moment1, moment2 to the last three.
  void operator()(const Lanes (&in)[reads], Lanes (&out)[writes]) const {
    const Lanes gradient = in[0];
    const Lanes first = in[2] + new1 * (gradient - in[2]);
    const Lanes second = beta2 * in[3] + new2 * gradient * gradient;
    out[0] = decay * in[1] - size * first / (V::square_roots(second) * inverse_root + epsilon);
    out[1] = first;
    out[2] = second;
  }

  // The table's entry.
  static void step(int64_t count, const AdamwStep& step, const T* gradient, T* row, T* moment1, T* moment2) {
    const Adamw own{T(step.decay),
                    T(1 - step.beta1),
                    T(step.beta2),
                    T(1 - step.beta2),
                    T(step.rate / step.correction1),
                    T(1 / __builtin_sqrt(step.correction2)),
                    T(step.epsilon)};
    Elementwise<V, Adamw>::run(own, count, {gradient, row, moment1, moment2}, {row, moment1, moment2});
  }
};

}  // namespace pf2lora::native
