// Attention by example and head, with S = scale q k^T, W = softmax(S), out = W v, and
// dS = W (E - sum_j W E) of E = d_out v^T. Weights of a head stand in `queries` rows of whole vectors; beyond
// the keys, and where a token may not look, they are 0. Heads that share keys and values add their gradients
// up.
#pragma once
#include "native/exponential.h"
#include "native/kernels.h"
#include "native/product.h"
#include "native/transpose.h"

namespace pf2lora::native {

template <class P, class T>
class Attention {
  using V = Vector<P, T>;
  using Lanes = typename V::Lanes;
  using Matrix = Rows<const T>;

 public:
  static int64_t weights_size(const AttentionShape& shape) {
    int64_t size = 0;
    for_examples(shape, [&](const Head& head) { size += shape.heads * head.queries * head.padded; });
    return size;
  }

  static int64_t scratch_size(const AttentionShape& shape) {
    int64_t largest = 0;
    for_examples(shape, [&](const Head& head) {
      const int64_t copied = shape.width % V::count == 0 ? 0 : 4 * head.queries + 2 * head.keys;
      const int64_t size = 2 * (shape.width + head.queries) * head.padded +
                           copied * round_up<P>(shape.width, V::count) + V::count;
      largest = size > largest ? size : largest;
    });
    return largest;
  }

  static void value(const AttentionShape& shape, Matrix q, Matrix k, Matrix v, T* weights, Rows<T> out,
                    T* scratch) {
    const T factor = T(shape.scale);
    for_heads(shape, [&](const Head& head) {
      Workspace memory(head, scratch);
      const Rows<T> w = weights == nullptr ? memory.scores() : head.scores(weights);
      multiply(head.queries, head.padded, w, {times(memory.left(q), head.width, memory.key_columns(k))});
      for (int64_t i = 0; i < head.queries; ++i)
        softmax(w.data + i * w.row, head.padded, head.visible(i), factor);
      multiply(head.queries, head.width, head.query(out), {times(fixed(w), head.keys, memory.keys(v))});
    });
  }

  // d_scores becomes E - sum_j W E.
  static void gradient(const AttentionShape& shape, Matrix q, Matrix k, Matrix v, const T* weights,
                       Matrix d_out, T* d_scores, Rows<T> d_q, Rows<T> d_k, Rows<T> d_v, T* scratch) {
    const T factor = T(shape.scale);
    for_heads(shape, [&](const Head& head) {
      Workspace memory(head, scratch);
      const Matrix w = head.scores(weights);
      const Rows<T> e = d_scores == nullptr ? memory.scores() : head.scores(d_scores), d_s = memory.scores();
      multiply(head.queries, head.padded, e, {times(memory.left(d_out), head.width, memory.key_columns(v))});
      for (int64_t at = 0; at < head.queries * head.padded; at += head.padded) {
        Lanes total{};
        for (int64_t j = at; j < at + head.padded; j += V::count)
          total += V::load(w.data + j) * V::load(e.data + j);
        const T mean = V::sum(total);
        for (int64_t j = at; j < at + head.padded; j += V::count) {
          const Lanes centred = V::load(e.data + j) - mean;
          V::store(e.data + j, centred);
          V::store(d_s.data + j, V::load(w.data + j) * centred * factor);
        }
      }
      multiply(head.keys, head.width, head.key(d_v), {turned(w, head.queries, memory.queries(d_out))},
               head.shares_keys);
      multiply(head.queries, head.width, head.query(d_q), {times(fixed(d_s), head.keys, memory.keys(k))});
      multiply(head.keys, head.width, head.key(d_k), {turned(fixed(d_s), head.queries, memory.queries(q))},
               head.shares_keys);
    });
  }

  // tW = W (tS - sum_j W tS).
  static void tangent(const AttentionShape& shape, Matrix q, Matrix k, Matrix v, Matrix t_q, Matrix t_k,
                      Matrix t_v, const T* weights, T* t_weights, Rows<T> t_out, T* scratch) {
    const T factor = T(shape.scale);
    for_heads(shape, [&](const Head& head) {
      Workspace memory(head, scratch);
      const Matrix w = head.scores(weights);
      const Rows<T> t_w = head.scores(t_weights);
      multiply(head.queries, head.padded, t_w,
               {times(memory.left(t_q), head.width, memory.key_columns(k)),
                times(memory.left(q), head.width, memory.key_columns(t_k))});
      for (int64_t at = 0; at < head.queries * head.padded; at += head.padded) {
        Lanes total{};
        for (int64_t j = at; j < at + head.padded; j += V::count)
          total += V::load(w.data + j) * V::load(t_w.data + j);
        const T mean = V::sum(total);
        for (int64_t j = at; j < at + head.padded; j += V::count)
          V::store(t_w.data + j, V::load(w.data + j) * (V::load(t_w.data + j) - mean) * factor);
      }
      multiply(head.queries, head.width, head.query(t_out),
               {times(fixed(t_w), head.keys, memory.keys(v)), times(w, head.keys, memory.keys(t_v))});
    });
  }

  // Of dS = W C with C = E - sum_j W E: t_dS = tW C + W (tE - sum_j (tW C + W tE)); the sum of tW is 0, so
  // C may stand for E in it.
  static void gradient_tangent(const AttentionShape& shape, Matrix q, Matrix k, Matrix v, Matrix t_q,
                               Matrix t_k, Matrix t_v, const T* weights, const T* t_weights,
                               const T* d_scores, Matrix d_out, Matrix t_d_out, Rows<T> t_d_q, Rows<T> t_d_k,
                               Rows<T> t_d_v, T* scratch) {
    const T factor = T(shape.scale);
    for_heads(shape, [&](const Head& head) {
      Workspace memory(head, scratch);
      const Matrix w = head.scores(weights), t_w = head.scores(t_weights), c = head.scores(d_scores);
      const Rows<T> d_s = memory.scores(), t_d_s = memory.scores();  // t_d_s: at first tE
      multiply(head.queries, head.padded, t_d_s,
               {times(memory.left(t_d_out), head.width, memory.key_columns(v)),
                times(memory.left(d_out), head.width, memory.key_columns(t_v))});
      for (int64_t at = 0; at < head.queries * head.padded; at += head.padded) {
        Lanes total{};
        for (int64_t j = at; j < at + head.padded; j += V::count)
          total +=
              V::load(t_w.data + j) * V::load(c.data + j) + V::load(w.data + j) * V::load(t_d_s.data + j);
        const T mean = V::sum(total);
        for (int64_t j = at; j < at + head.padded; j += V::count) {
          const Lanes own_w = V::load(w.data + j), own_c = V::load(c.data + j);
          const Lanes t_e = V::load(t_d_s.data + j) - mean;
          V::store(t_d_s.data + j, (V::load(t_w.data + j) * own_c + own_w * t_e) * factor);
          V::store(d_s.data + j, own_w * own_c * factor);
        }
      }
      multiply(head.keys, head.width, head.key(t_d_v),
               {turned(w, head.queries, memory.queries(t_d_out)),
                turned(t_w, head.queries, memory.queries(d_out))},
               head.shares_keys);
      multiply(
          head.queries, head.width, head.query(t_d_q),
          {times(fixed(t_d_s), head.keys, memory.keys(k)), times(fixed(d_s), head.keys, memory.keys(t_k))});
      multiply(head.keys, head.width, head.key(t_d_k),
               {turned(fixed(t_d_s), head.queries, memory.queries(q)),
                turned(fixed(d_s), head.queries, memory.queries(t_q))},
               head.shares_keys);
    });
  }

 private:
  // One head of one example, and where it stands in each matrix.
  struct Head {
    int64_t queries, keys;
    int64_t padded;  // keys rounded up to whole vectors
    int64_t width;
    int64_t query_row, query_column, key_row, key_column;
    int64_t scores_at;
    bool causal;
    bool shares_keys;  // with the head before

    template <class U>
    Rows<U> query(Rows<U> x) const {
      return part(x, query_row, query_column);
    }
    template <class U>
    Rows<U> key(Rows<U> x) const {
      return part(x, key_row, key_column);
    }
    template <class U>
    Rows<U> scores(U* all) const {
      return {all + scores_at, padded};
    }
    // How many keys query i sees.
    int64_t visible(int64_t i) const { return !causal ? keys : i + 1 < keys ? i + 1 : keys; }

   private:
    template <class U>
    Rows<U> part(Rows<U> x, int64_t row, int64_t column) const {
      return x.data == nullptr ? x : Rows<U>{x.data + row * x.row + column, x.row};
    }
  };

  // Working memory of one head: whole vectors from an aligned start. What is made of nothing is nothing.
  class Workspace {
   public:
    Workspace(const Head& head, T* scratch) : head_(head) {
      const auto beyond = reinterpret_cast<uintptr_t>(scratch) % P::bytes / sizeof(T);
      next_ = beyond == 0 ? scratch : scratch + (V::count - int64_t(beyond));
    }
    Rows<T> scores() { return take(head_.queries, head_.padded); }

    // The rows of x as the left side of a product.
    Matrix left(Matrix x) const {
      if (x.data == nullptr) return x;
      ask_beside(head_.query(x), head_.queries);
      return head_.query(x);
    }
    // The keys' rows of x as columns, [width, padded].
    Matrix key_columns(Matrix x) {
      if (x.data == nullptr) return {};
      const Matrix own = head_.key(x);
      ask_beside(own, head_.keys);
      const Rows<T> columns = take(head_.width, head_.padded);
      Transpose<P, T>::matrix(own.data, own.row, head_.keys, head_.width, columns.data, columns.row);
      return fixed(columns);
    }
    // The rows of x as the right side of a product.
    Matrix keys(Matrix x) { return right(head_.key(x), head_.keys); }
    Matrix queries(Matrix x) { return right(head_.query(x), head_.queries); }

   private:
    // A right side is read in whole vectors: where the width is not, a copy.
    Matrix right(Matrix x, int64_t rows) {
      if (x.data == nullptr) return x;
      ask_beside(x, rows);
      if (head_.width % V::count == 0) return x;
      const Rows<T> copy = take(rows, round_up<P>(head_.width, V::count));
      for (int64_t i = 0; i < rows; ++i) {
        T* to = copy.data + i * copy.row;
        for (int64_t j = 0; j < head_.width; ++j) to[j] = x.data[i * x.row + j];
        for (int64_t j = head_.width; j < copy.row; ++j) to[j] = 0;
      }
      return fixed(copy);
    }
    // For the rows of the next head, which stand beside those of this one: all heads together have left the
    // second-level cache, and no processor foresees such strides.
    void ask_beside(Matrix x, int64_t rows) const {
      const auto* beside = reinterpret_cast<const char*>(x.data + head_.width);
      for (int64_t i = 0; i < rows; ++i, beside += x.row * int64_t(sizeof(T)))
        for (int64_t at = 0; at < head_.width * int64_t(sizeof(T)); at += kCacheLine)
          __builtin_prefetch(beside + at, /*to be written*/ 0, /*into the second-level cache*/ 2);
    }
    Rows<T> take(int64_t rows, int64_t row) {
      const Rows<T> taken{next_, row};
      next_ += rows * row;
      return taken;
    }

    const Head& head_;
    T* next_;
  };

  template <class F>
  static void for_examples(const AttentionShape& shape, const F& f) {
    const int64_t* offsets = shape.offsets.data();
    const int64_t examples = int64_t(shape.offsets.size()) - 1;
    for (int64_t i = 0; i < examples; ++i) {
      const int64_t keys = offsets[i + 1] - offsets[i];
      Head head{};
      head.queries = shape.queries > 0 ? shape.queries : keys;
      head.keys = keys;
      head.padded = round_up<P>(keys, V::count);
      head.width = shape.width;
      head.query_row = shape.queries > 0 ? i * shape.queries : offsets[i];
      head.key_row = offsets[i];
      head.causal = shape.causal;
      f(head);
    }
  }
  template <class F>
  static void for_heads(const AttentionShape& shape, const F& f) {
    int64_t scores_at = 0;
    for_examples(shape, [&](Head head) {
      for (int64_t h = 0; h < shape.heads; ++h) {
        head.query_column = h * shape.width;
        head.key_column = h / shape.group * shape.width;
        head.shares_keys = h % shape.group != 0;
        head.scores_at = scores_at;
        scores_at += head.queries * head.padded;
        f(head);
      }
    });
  }

  // e^(factor (x - max)) over its sum for the first `visible` of a row, 0 for the others.
  static void softmax(T* row, int64_t padded, int64_t visible, T factor) {
    Lanes most = V::all(visible > 0 ? row[0] : T(0)), total{};
    for (int64_t j = 0; j < padded; j += V::count)
      most = V::first(visible - j) ? V::larger(V::load(row + j), most) : most;
    const T largest = V::largest(most);
    for (int64_t j = 0; j < padded; j += V::count) {
      const Lanes below = (V::load(row + j) - largest) * factor;
      const Lanes power = V::first(visible - j) ? Exponential<P, T>(below).value() : Lanes{};
      total += power;
      V::store(row + j, power);
    }
    const T share = 1 / V::sum(total);
    for (int64_t j = 0; j < padded; j += V::count) V::store(row + j, V::load(row + j) * share);
  }

  static Matrix fixed(Rows<T> x) { return {x.data, x.row}; }

  // a b
  static Term<T> times(Matrix a, int64_t depth, Matrix b) {
    return {b.data == nullptr ? nullptr : a.data, a.row, 1, depth, b.data, b.row, Tiles<P, T>::panel};
  }
  // a^T b
  static Term<T> turned(Matrix a, int64_t depth, Matrix b) {
    return {b.data == nullptr ? nullptr : a.data, 1, a.row, depth, b.data, b.row, Tiles<P, T>::panel};
  }
  // Nothing where nothing is to be written.
  template <int count>
  static void multiply(int64_t rows, int64_t columns, Rows<T> c, const Term<T> (&terms)[count],
                       bool add = false) {
    if (c.data == nullptr) return;
    Product<P, T>::run(terms, count, rows, columns, {c, nullptr, add});
  }
};

}  // namespace pf2lora::native
