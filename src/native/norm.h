// Norms over rows, with y = (x - <x>) s, s = 1 / sqrt(<(x - <x>)^2> + epsilon), <.> the average of a row and
// J(v) = v - <v> - y <v y>, so that dy = s J(dx) and ds = -s^2 <y dx>. RMS norm is not centred: the same with
// 0 for <x> and <v>.
#pragma once
#include "native/kernels.h"
#include "native/parts.h"

namespace pf2lora::native {

template <class P, class T, bool centred>
struct Norm {
  using V = Vector<P, T>;
  using Lanes = typename V::Lanes;

  static void add_norm(int64_t rows, int64_t width, const T* a, const T* b, const T* gain, const T* shift,
                       double epsilon, T* normal, T* scale, T* out) {
    for (int64_t i = 0; i < rows; ++i) {
      const T *row_a = a + i * width, *row_b = b == nullptr ? nullptr : b + i * width;
      T *row_normal = normal + i * width, *row_out = out + i * width;
      const auto x = [&](const auto& part) { return sum_of(part, row_a, row_b); };
      Lanes total{}, squares{};
      along(width, [&](const auto& part) { total += x(part); });
      const Lanes middle = mean(total, width);
      along(width, [&](const auto& part) {
        const Lanes distance = part.inside(x(part) - middle);
        squares += distance * distance;
      });
      const T s = 1 / V::square_root(V::sum(squares) / T(width) + T(epsilon));
      scale[i] = s;
      along(width, [&](const auto& part) {
        const Lanes y = (x(part) - middle) * s;
        part.store(row_normal, y);
        if constexpr (centred)
          part.store(row_out, y * part.load(gain) + part.load(shift));
        else
          part.store(row_out, y * part.load(gain));
      });
    }
  }

  // s J(v) with v = gain * d_out.
  static void add_norm_gradient(int64_t rows, int64_t width, const T* d_out, const T* gain, const T* normal,
                                const T* scale, T* d_x) {
    for (int64_t i = 0; i < rows; ++i) {
      const T *row_d = d_out + i * width, *y = normal + i * width;
      const auto v = [&](const auto& part) { return part.load(row_d) * part.load(gain); };
      write_projected(width, v, y, scale[i], [row = d_x + i * width](const auto& part, Lanes projected) {
        part.store(row, projected);
      });
    }
  }

  static void add_norm_tangent(int64_t rows, int64_t width, const T* t_a, const T* t_b, const T* gain,
                               const T* normal, const T* scale, T* t_normal, T* t_scale, T* t_out) {
    for (int64_t i = 0; i < rows; ++i) {
      const T* row_a = t_a == nullptr ? nullptr : t_a + i * width;
      const T* row_b = t_b == nullptr ? nullptr : t_b + i * width;
      const T s = scale[i];
      const auto v = [&](const auto& part) { return sum_of(part, row_a, row_b); };
      T *row_normal = t_normal + i * width, *row_out = t_out + i * width;
      const T along_y =
          write_projected(width, v, normal + i * width, s, [&](const auto& part, Lanes projected) {
            part.store(row_normal, projected);
            part.store(row_out, projected * part.load(gain));
          });
      t_scale[i] = -s * s * along_y;
    }
  }

  // Of d_x = s J(v): (ds / s) d_x + s (J(dv) - dy <v y> - y <v dy>).
  static void add_norm_gradient_tangent(int64_t rows, int64_t width, const T* d_out, const T* t_d_out,
                                        const T* gain, const T* normal, const T* t_normal, const T* scale,
                                        const T* t_scale, const T* d_x, T* t_d_x) {
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = i * width;
      const T *row_d = d_out + at, *row_t_d = t_d_out + at, *y = normal + at, *t_y = t_normal + at;
      Lanes total{}, along_y{}, t_along_y{};
      along(width, [&](const auto& part) {
        const Lanes weight = part.load(gain), t_v = part.load(row_t_d) * weight;
        const Lanes v = part.load(row_d) * weight, y_part = part.load(y);
        total += t_v;
        along_y += v * y_part;
        t_along_y += t_v * y_part + v * part.load(t_y);
      });
      const Lanes middle = mean(total, width), share = V::all(V::sum(along_y) / T(width)),
                  t_share = V::all(V::sum(t_along_y) / T(width));
      const T s = scale[i], growth = t_scale[i] / s;
      const T* row_d_x = d_x + at;
      T* row_t_d_x = t_d_x + at;
      along(width, [&](const auto& part) {
        const Lanes t_v = part.load(row_t_d) * part.load(gain);
        const Lanes inner = t_v - middle - part.load(t_y) * share - part.load(y) * t_share;
        part.store(row_t_d_x, part.load(row_d_x) * growth + inner * s);
      });
    }
  }

 private:
  // Calls f with every part of a row.
  template <class F>
  [[gnu::always_inline]] static void along(int64_t width, const F& f) {
    native::along<V>(0, width, f);
  }

  // Of a row, by the sum of its parts.
  [[gnu::always_inline]] static Lanes mean([[maybe_unused]] Lanes total, [[maybe_unused]] int64_t width) {
    if constexpr (centred)
      return V::all(V::sum(total) / T(width));
    else
      return Lanes{};
  }

  // a + b, either of which may be missing.
  template <class Part>
  [[gnu::always_inline]] static Lanes sum_of(const Part& part, const T* a, const T* b) {
    Lanes sum{};
    if (a != nullptr) sum = part.load(a);
    if (b != nullptr) sum += part.load(b);
    return sum;
  }

  // Passes s J(v) to `write` part by part; returns <v y>.
  template <class Direction, class Write>
  [[gnu::always_inline]] static T write_projected(int64_t width, const Direction& v, const T* y, T s,
                                                  const Write& write) {
    Lanes total{}, along_y{};
    along(width, [&](const auto& part) {
      const Lanes v_part = v(part);
      total += v_part;
      along_y += v_part * part.load(y);
    });
    const T share = V::sum(along_y) / T(width);
    const Lanes middle = mean(total, width), shares = V::all(share);
    along(width, [&](const auto& part) { write(part, (v(part) - middle - part.load(y) * shares) * s); });
    return share;
  }
};

}  // namespace pf2lora::native
