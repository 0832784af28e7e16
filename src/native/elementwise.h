// What is done number by number. An operation reads `reads` arrays and writes `writes` of them, a vector at a
// time.
#pragma once
#include "native/vector.h"

namespace pf2lora::native {

// Applies the operation to `count` numbers: to whole vectors, then to a padded copy of what is left. The same
// code sees both, so the bits of a number do not depend on its place.
template <class V, class Operation>
class Elementwise {
  using T = typename V::Number;
  using Lanes = typename V::Lanes;
  static constexpr int reads = Operation::reads, writes = Operation::writes;

 public:
  static void run(const Operation& operation, int64_t count, const T* const (&from)[reads],
                  T* const (&to)[writes]) {
    const int64_t left = count % V::count, whole = count - left;
    run_whole(operation, whole, from, to);
    if (left == 0) return;
    T inputs[reads][V::count] = {}, outputs[writes][V::count];
    const T* padded_from[reads];
    T* padded_to[writes];
    for (int i = 0; i < reads; ++i) {
      __builtin_memcpy(inputs[i], from[i] + whole, size_t(left) * sizeof(T));
      padded_from[i] = inputs[i];
    }
    for (int i = 0; i < writes; ++i) padded_to[i] = outputs[i];
    run_whole(operation, V::count, padded_from, padded_to);
    for (int i = 0; i < writes; ++i) __builtin_memcpy(to[i] + whole, outputs[i], size_t(left) * sizeof(T));
  }

 private:
  [[gnu::noinline]] static void run_whole(const Operation& operation, int64_t count,
                                          const T* const (&from)[reads], T* const (&to)[writes]) {
    const Operation own = operation;
    const T* sources[reads];
    T* targets[writes];
    for (int i = 0; i < reads; ++i) sources[i] = from[i];
    for (int i = 0; i < writes; ++i) targets[i] = to[i];
    for (int64_t at = 0; at < count; at += V::count) {
      Lanes in[reads], out[writes];
      for (int i = 0; i < reads; ++i) in[i] = V::load(sources[i] + at);
      own(in, out);
      for (int i = 0; i < writes; ++i) V::store(targets[i] + at, out[i]);
    }
  }
};

template <class V>
struct Multiply {
  using Lanes = typename V::Lanes;
  static constexpr int reads = 2, writes = 1;
  void operator()(const Lanes (&in)[reads], Lanes (&out)[writes]) const { out[0] = in[0] * in[1]; }
};

// a * b + c * d (* e).
template <class V, int factors>
struct MultiplyAndAdd {
  using Lanes = typename V::Lanes;
  static constexpr int reads = 2 + factors, writes = 1;
  void operator()(const Lanes (&in)[reads], Lanes (&out)[writes]) const {
    if constexpr (factors == 2)
      out[0] = in[0] * in[1] + in[2] * in[3];
    else
      out[0] = in[0] * in[1] + in[2] * in[3] * in[4];
  }
};

template <class V>
struct Add {
  using Lanes = typename V::Lanes;
  static constexpr int reads = 2, writes = 1;
  void operator()(const Lanes (&in)[reads], Lanes (&out)[writes]) const { out[0] = in[0] + in[1]; }
};

// The table's entries.
template <class P, class T>
struct ElementwiseKernels {
  using V = Vector<P, T>;

  static void multiply(int64_t count, const T* a, const T* b, const T* c, const T* d, const T* e, T* out) {
    if (c == nullptr)
      Elementwise<V, Multiply<V>>::run({}, count, {a, b}, {out});
    else if (e == nullptr)
      Elementwise<V, MultiplyAndAdd<V, 2>>::run({}, count, {a, b, c, d}, {out});
    else
      Elementwise<V, MultiplyAndAdd<V, 3>>::run({}, count, {a, b, c, d, e}, {out});
  }
  static void add(int64_t count, const T* a, const T* b, T* out) {
    Elementwise<V, Add<V>>::run({}, count, {a, b}, {out});
  }
};

}  // namespace pf2lora::native
