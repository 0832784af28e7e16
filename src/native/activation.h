// Activation functions with their first two derivatives; all of one function share its exponential.
#pragma once
#include "native/elementwise.h"
#include "native/exponential.h"
#include "native/kernels.h"

namespace pf2lora::native {

// f(x), f'(x), f''(x).
template <class V>
struct Derivatives {
  typename V::Lanes value, slope, curvature;
};

template <class P, class T>
struct Gelu {
  using V = Vector<P, T>;
  using Lanes = typename V::Lanes;

  // x Phi(x), with Phi and phi of the normal distribution.
  [[gnu::always_inline]] static Derivatives<V> at(Lanes x) {
    const Lanes bell = Exponential<P, T>(T(-0.5) * x * x).value();
    const Lanes density = bell * T(0.3989422804014327);  // 1 / sqrt(2 pi)
    const Lanes share = below(x, bell);
    return {x * share, share + x * density, density * (2 - x * x)};
  }

 private:
  // Phi(x); bell is e^(-x^2/2).
  [[gnu::always_inline]] static Lanes below(Lanes x, Lanes bell) {
    if constexpr (sizeof(T) == 8) {
      Lanes share;
      for (int64_t i = 0; i < V::count; ++i) share[i] = 0.5 * __builtin_erfc(-0.70710678118654752 * x[i]);
      return share;
    } else {
      // Phi(-|x|) = bell * (c1 t + ... + c7 t^7), t = 1 / (1 + 0.325 |x|): a fit to within 3e-9, and to
      // within 6e-6 of the value itself down to x = -5.
      const Lanes t = 1 / (1 + T(0.325) * V::magnitude(x));
      Lanes tail = V::all(T(0.046324141));
      for (const T c :
           {T(-0.233616213), T(0.374340001), T(-0.131482784), T(0.201570822), T(0.111598318), T(0.131265718)})
        tail = tail * t + c;
      tail = tail * t * bell;
      return x < 0 ? tail : 1 - tail;
    }
  }
};

// tanh(x) and 1 - tanh(x)^2, both without cancellation, from e^(-2|x|) and that less 1.
template <class P, class T>
struct HyperbolicTangent {
  using V = Vector<P, T>;
  typename V::Lanes value, slope;

  [[gnu::always_inline]] explicit HyperbolicTangent(typename V::Lanes x) {
    const Exponential<P, T> power(-2 * V::magnitude(x));
    const auto less = power.value_less_one(), inverse = 1 / (2 + less);
    value = less * inverse;  // tanh(-|x|)
    value = x < 0 ? value : -value;
    slope = 4 * power.value() * inverse * inverse;
  }
};

template <class P, class T>
struct Tanh {
  using V = Vector<P, T>;
  [[gnu::always_inline]] static Derivatives<V> at(typename V::Lanes x) {
    const HyperbolicTangent<P, T> tangent(x);
    return {tangent.value, tangent.slope, -2 * tangent.value * tangent.slope};
  }
};

// x (1 + tanh(u)) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3).
template <class P, class T>
struct GeluTanh {
  using V = Vector<P, T>;
  [[gnu::always_inline]] static Derivatives<V> at(typename V::Lanes x) {
    constexpr T root = T(0.7978845608028654), cubic = T(0.044715);
    const auto square = x * x;
    const HyperbolicTangent<P, T> tangent(root * x * (1 + cubic * square));
    const auto d_u = root * (1 + 3 * cubic * square), dd_u = 6 * root * cubic * x;
    const auto share = T(0.5) * (1 + tangent.value);
    const auto d_share = T(0.5) * tangent.slope * d_u;
    const auto dd_share = T(0.5) * tangent.slope * (dd_u - 2 * tangent.value * d_u * d_u);
    return {x * share, share + x * d_share, 2 * d_share + x * dd_share};
  }
};

template <class P, class T>
struct Relu {
  using V = Vector<P, T>;
  [[gnu::always_inline]] static Derivatives<V> at(typename V::Lanes x) {
    const typename V::Lanes none{};
    return {x < 0 ? none : x, x > 0 ? V::all(1) : none, none};  // what is not a number stays so
  }
};

// x s(x) with s(x) = 1 / (1 + e^-x), s' = s (1 - s), s'' = s' (1 - 2 s), without cancellation from e^-|x|.
template <class P, class T>
struct Silu {
  using V = Vector<P, T>;
  [[gnu::always_inline]] static Derivatives<V> at(typename V::Lanes x) {
    const Exponential<P, T> power(-V::magnitude(x));
    const auto inverse = 1 / (2 + power.value_less_one()), balance = power.value_less_one() * inverse;
    const auto share = x < 0 ? power.value() * inverse : inverse;
    const auto d_share = power.value() * inverse * inverse;
    const auto dd_share = d_share * (x < 0 ? -balance : balance);
    return {x * share, share + x * d_share, 2 * d_share + x * dd_share};
  }
};

// As an operation of Elementwise that writes the first `writes` of them.
template <class P, class T, class Function, int derivatives>
struct Activate {
  using V = Vector<P, T>;
  static constexpr int reads = 1, writes = 1 + derivatives;
  void operator()(const typename V::Lanes (&in)[reads], typename V::Lanes (&out)[writes]) const {
    const Derivatives<V> all = Function::at(in[0]);
    out[0] = all.value;
    if constexpr (derivatives > 0) out[1] = all.slope;
    if constexpr (derivatives > 1) out[2] = all.curvature;
  }
};

// The table's entry.
template <class P, class T>
struct ActivationKernels {
  static void activation(Activation kind, int64_t count, const T* in, T* out, T* slope, T* curvature) {
    switch (kind) {
      case Activation::gelu:
        return apply<Gelu<P, T>>(count, in, out, slope, curvature);
      case Activation::gelu_tanh:
        return apply<GeluTanh<P, T>>(count, in, out, slope, curvature);
      case Activation::relu:
        return apply<Relu<P, T>>(count, in, out, slope, curvature);
      case Activation::silu:
        return apply<Silu<P, T>>(count, in, out, slope, curvature);
      case Activation::tanh:
        return apply<Tanh<P, T>>(count, in, out, slope, curvature);
    }
  }

 private:
  template <class Function, int derivatives>
  using Run = Elementwise<Vector<P, T>, Activate<P, T, Function, derivatives>>;

  template <class Function>
  static void apply(int64_t count, const T* in, T* out, T* slope, T* curvature) {
    if (slope == nullptr)
      Run<Function, 0>::run({}, count, {in}, {out});
    else if (curvature == nullptr)
      Run<Function, 1>::run({}, count, {in}, {out, slope});
    else
      Run<Function, 2>::run({}, count, {in}, {out, slope, curvature});
  }
};

}  // namespace pf2lora::native
