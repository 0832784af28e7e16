// Vectors of one kind of processor. `P` names the kind: P::bytes of a vector, P::tile_rows of a product's
// register tile. Each .cpp that is compiled for a kind declares its P in an unnamed namespace, so whatever
// these templates make stays in that file: code for one processor never serves another.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pf2lora::native {

template <class P, class T>
struct Vector {
  using Number = T;
  using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef T Lanes __attribute__((vector_size(P::bytes)));
  typedef Integer Mask __attribute__((vector_size(P::bytes)));  // by lane: 0 or all bits
  static constexpr int64_t count = P::bytes / sizeof(T);

  [[gnu::always_inline]] static Lanes load(const T* from) {
    return *reinterpret_cast<const Unaligned*>(from);
  }
  [[gnu::always_inline]] static void store(T* to, Lanes lanes) { *reinterpret_cast<Unaligned*>(to) = lanes; }

  // The first n lanes alone: the others are loaded as 0 and not stored.
  [[gnu::always_inline]] static Lanes load_first(const T* from, int64_t n) {
    Lanes lanes{};
    __builtin_memcpy(&lanes, from, size_t(n) * sizeof(T));
    return lanes;
  }
  [[gnu::always_inline]] static void store_first(T* to, Lanes lanes, int64_t n) {
    __builtin_memcpy(to, &lanes, size_t(n) * sizeof(T));
  }

  [[gnu::always_inline]] static Lanes all(T number) { return Lanes{} + number; }
  [[gnu::always_inline]] static Mask lane_numbers() {
    Mask numbers{};
    for (int64_t i = 0; i < count; ++i) numbers[i] = Integer(i);
    return numbers;
  }
  [[gnu::always_inline]] static Mask first(int64_t n) { return lane_numbers() < Integer(n); }
  [[gnu::always_inline]] static Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
  [[gnu::always_inline]] static Lanes magnitude(Lanes a) { return a < 0 ? -a : a; }

  [[gnu::always_inline]] static Lanes square_roots(Lanes a) {
    for (int64_t i = 0; i < count; ++i) a[i] = square_root(a[i]);
    return a;
  }
  [[gnu::always_inline]] static T square_root(T a) {
    if constexpr (sizeof(T) == 4)
      return __builtin_sqrtf(a);
    else
      return __builtin_sqrt(a);
  }

  // Lane i of the result is lane at[i] of a and b, end to end.
  [[gnu::always_inline]] static Lanes permute(Lanes a, Lanes b, Mask at) {
#ifdef __clang__
    Lanes result{};
    for (int64_t i = 0; i < count; ++i) result[i] = at[i] < count ? a[at[i]] : b[at[i] - count];
    return result;
#else
    return __builtin_shuffle(a, b, at);
#endif
  }

  [[gnu::always_inline]] static T sum(Lanes a) {
    for (int64_t half = count / 2; half > 0; half /= 2) a += permute(a, a, lane_numbers() + Integer(half));
    return a[0];
  }
  [[gnu::always_inline]] static T largest(Lanes a) {
    for (int64_t half = count / 2; half > 0; half /= 2)
      a = larger(a, permute(a, a, lane_numbers() + Integer(half)));
    return a[0];
  }

 private:
  typedef T Unaligned __attribute__((vector_size(P::bytes), aligned(alignof(T)), may_alias));
};

inline constexpr int64_t kCacheLine = 64;  // bytes

// `whole` rounded up to a multiple of `part`.
template <class P>
constexpr int64_t round_up(int64_t whole, int64_t part) {
  return (whole + part - 1) / part * part;
}

}  // namespace pf2lora::native
