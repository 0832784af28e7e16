#include "native/team_kernels.h"

#include <algorithm>
#include <array>

namespace pf2lora::native {
namespace {

constexpr int64_t kLeastCost = 1 << 20;  // of a thread's part, some 10 microseconds
constexpr int64_t kCostOfNumber = 32;    // of an activation or a norm
constexpr int64_t kLeastRows = 32;       // of a product, for each of which a thread reads all of B

template <class T>
T* at(T* data, int64_t offset) {
  return data == nullptr ? nullptr : data + offset;
}

template <class T>
Rows<T> from(Rows<T> matrix, int64_t row) {
  return {at(matrix.data, row * matrix.row), matrix.row};
}

}  // namespace

template <class T>
int64_t TeamKernels<T>::parts(int64_t cost) const {
  return team_ == nullptr ? 1 : std::clamp(cost / kLeastCost, int64_t{1}, team_->threads());
}

// f(begin, end) of the shares of [0, count).
template <class T>
template <class F>
void TeamKernels<T>::share(int64_t count, int64_t cost, const F& f) const {
  const int64_t parts = std::min(this->parts(cost), count);
  if (parts <= 1) return f(int64_t{0}, count);
  team_->run(parts, [&](int64_t i) { f(count * i / parts, count * (i + 1) / parts); });
}

// f(part, row, rows, column, columns) of the shares of a product: some rows, or, of few rows, some panels.
template <class T>
template <class F>
void TeamKernels<T>::share_product(int64_t rows, int64_t columns, int64_t depth, const F& f) const {
  const int64_t panel = this->panel, panels = (columns + panel - 1) / panel;
  const int64_t threads = parts(2 * rows * columns * depth);
  if (rows >= threads * kLeastRows || rows >= panels) {
    const int64_t parts = std::min(threads, rows);
    const auto some = [&](int64_t i) {
      const int64_t begin = rows * i / parts;
      f(i, begin, rows * (i + 1) / parts - begin, int64_t{0}, columns);
    };
    parts <= 1 ? some(0) : team_->run(parts, some);
  } else {
    const int64_t parts = std::min(threads, panels);
    const auto some = [&](int64_t i) {
      const int64_t begin = panels * i / parts * panel,
                    end = std::min(columns, panels * (i + 1) / parts * panel);
      f(i, int64_t{0}, rows, begin, end - begin);
    };
    parts <= 1 ? some(0) : team_->run(parts, some);
  }
}

template <class T>
void TeamKernels<T>::product(std::span<const Term<T>> terms, int64_t rows, int64_t columns, Out c,
                             const T* bias, bool add) const {
  int64_t depth = 0;
  for (const Term<T>& term : terms) depth += term.a == nullptr ? 0 : term.depth;
  const auto part = [&](int64_t, int64_t row, int64_t own_rows, int64_t column, int64_t own_columns) {
    std::array<Term<T>, kMostTerms> own;
    std::copy(terms.begin(), terms.end(), own.begin());
    for (Term<T>& term : std::span(own).first(terms.size())) {
      term.a = at(term.a, row * term.a_row);
      term.b = at(term.b, column / this->panel * term.b_panel);
    }
    Base::product(std::span(own).first(terms.size()), own_rows, own_columns,
                  {c.data + row * c.row + column, c.row}, at(bias, column), add);
  };
  share_product(rows, columns, depth, part);
}

template <class T>
int64_t TeamKernels<T>::half_scratch(const HalfKernels& half, int64_t rows, int64_t depth) const {
  return half.scratch(rows, depth) * (team_ == nullptr ? 1 : team_->threads());
}

template <class T>
void TeamKernels<T>::half_product(const HalfKernels& half, const HalfTerm& term,
                                  std::span<const Term<float>> terms, int64_t rows, int64_t columns,
                                  Rows<float> c, const float* bias, bool add, float* scratch) const {
  const auto part = [&](int64_t i, int64_t row, int64_t own_rows, int64_t column, int64_t own_columns) {
    std::array<Term<float>, kMostTerms> own;
    std::copy(terms.begin(), terms.end(), own.begin());
    for (Term<float>& other : std::span(own).first(terms.size())) {
      other.a = at(other.a, row * other.a_row);
      other.b = at(other.b, column / this->panel * other.b_panel);
    }
    half.product(
        {term.a + row * term.a_row, term.a_row, term.depth, term.b + half.panels_size(term.depth, column)},
        std::span(own).first(terms.size()), own_rows, own_columns, {c.data + row * c.row + column, c.row},
        at(bias, column), add, scratch + i * half.scratch(rows, term.depth));
  };
  share_product(rows, columns, term.depth, part);
}

template <class T>
void TeamKernels<T>::add_norm(bool centred, int64_t rows, int64_t width, const T* a, const T* b,
                              const T* gain, const T* shift, double epsilon, T* normal, T* scale,
                              T* out) const {
  const auto norm = centred ? Base::add_norm : Base::add_rms_norm;
  share(rows, rows * width * kCostOfNumber, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * width;
    norm(end - begin, width, at(a, first), at(b, first), gain, shift, epsilon, normal + first, scale + begin,
         out + first);
  });
}

template <class T>
void TeamKernels<T>::add_norm_gradient(bool centred, int64_t rows, int64_t width, const T* d_out,
                                       const T* gain, const T* normal, const T* scale, T* d_x) const {
  const auto norm = centred ? Base::add_norm_gradient : Base::add_rms_norm_gradient;
  share(rows, rows * width * kCostOfNumber, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * width;
    norm(end - begin, width, d_out + first, gain, normal + first, scale + begin, d_x + first);
  });
}

template <class T>
void TeamKernels<T>::add_norm_tangent(bool centred, int64_t rows, int64_t width, const T* t_a, const T* t_b,
                                      const T* gain, const T* normal, const T* scale, T* t_normal, T* t_scale,
                                      T* t_out) const {
  const auto norm = centred ? Base::add_norm_tangent : Base::add_rms_norm_tangent;
  share(rows, rows * width * kCostOfNumber, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * width;
    norm(end - begin, width, at(t_a, first), at(t_b, first), gain, normal + first, scale + begin,
         t_normal + first, t_scale + begin, t_out + first);
  });
}

template <class T>
void TeamKernels<T>::add_norm_gradient_tangent(bool centred, int64_t rows, int64_t width, const T* d_out,
                                               const T* t_d_out, const T* gain, const T* normal,
                                               const T* t_normal, const T* scale, const T* t_scale,
                                               const T* d_x, T* t_d_x) const {
  const auto norm = centred ? Base::add_norm_gradient_tangent : Base::add_rms_norm_gradient_tangent;
  share(rows, rows * width * kCostOfNumber, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * width;
    norm(end - begin, width, d_out + first, t_d_out + first, gain, normal + first, t_normal + first,
         scale + begin, t_scale + begin, d_x + first, t_d_x + first);
  });
}

template <class T>
void TeamKernels<T>::activation(Activation kind, int64_t count, const T* in, T* out, T* slope,
                                T* curvature) const {
  share(count, count * kCostOfNumber, [&](int64_t begin, int64_t end) {
    Base::activation(kind, end - begin, in + begin, out + begin, at(slope, begin), at(curvature, begin));
  });
}

template <class T>
void TeamKernels<T>::multiply(int64_t count, const T* a, const T* b, const T* c, const T* d, const T* e,
                              T* out) const {
  share(count, count * kCostOfNumber, [&](int64_t begin, int64_t end) {
    Base::multiply(end - begin, a + begin, b + begin, at(c, begin), at(d, begin), at(e, begin), out + begin);
  });
}

template <class T>
void TeamKernels<T>::add(int64_t count, const T* a, const T* b, T* out) const {
  share(count, count * kCostOfNumber,
        [&](int64_t begin, int64_t end) { Base::add(end - begin, a + begin, b + begin, out + begin); });
}

// The shares of the examples, of about as many scores each.
template <class T>
std::vector<typename TeamKernels<T>::Examples> TeamKernels<T>::examples(const AttentionShape& shape) const {
  const int64_t count = shape.examples();
  const auto scores = [&](int64_t i) {
    const int64_t keys = shape.offsets[size_t(i) + 1] - shape.offsets[size_t(i)];
    return (shape.queries > 0 ? shape.queries : keys) * keys;
  };
  int64_t all = 0;
  for (int64_t i = 0; i < count; ++i) all += scores(i);
  const int64_t parts = this->parts(4 * all * shape.heads * shape.width);
  std::vector<Examples> shares;
  int64_t before = 0, weights = 0;
  for (int64_t part = 0, begin = 0, end = 0; part < parts; ++part, begin = end) {
    for (; end < count && (part + 1 == parts || before < all * (part + 1) / parts); ++end)
      before += scores(end);
    if (begin == end && part > 0) continue;
    Examples& share = shares.emplace_back(Examples{shape, begin * shape.queries, weights});
    share.shape.offsets = shape.offsets.subspan(size_t(begin), size_t(end - begin) + 1);
    if (parts > 1) weights += Base::attention_weights(share.shape);
  }
  return shares;
}

template <class T>
template <class F>
void TeamKernels<T>::share_examples(const AttentionShape& shape, T* scratch, const F& f) const {
  const std::vector<Examples> shares = examples(shape);
  if (shares.size() == 1) return f(shares.front(), scratch);
  const int64_t own = Base::attention_scratch(shape);
  team_->run(int64_t(shares.size()), [&](int64_t i) { f(shares[size_t(i)], scratch + i * own); });
}

template <class T>
int64_t TeamKernels<T>::attention_scratch(const AttentionShape& shape) const {
  return Base::attention_scratch(shape) * (team_ == nullptr ? 1 : team_->threads());
}

template <class T>
void TeamKernels<T>::attention(const AttentionShape& shape, In q, In k, In v, T* weights, Out out,
                               T* scratch) const {
  share_examples(shape, scratch, [&](const Examples& own, T* memory) {
    Base::attention(own.shape, from(q, own.query), k, v, weights + own.weights, from(out, own.query), memory);
  });
}

template <class T>
void TeamKernels<T>::attention_gradient(const AttentionShape& shape, In q, In k, In v, const T* weights,
                                        In d_out, T* d_scores, Out d_q, Out d_k, Out d_v, T* scratch) const {
  share_examples(shape, scratch, [&](const Examples& own, T* memory) {
    Base::attention_gradient(own.shape, from(q, own.query), k, v, weights + own.weights,
                             from(d_out, own.query), d_scores + own.weights, from(d_q, own.query), d_k, d_v,
                             memory);
  });
}

template <class T>
void TeamKernels<T>::attention_tangent(const AttentionShape& shape, In q, In k, In v, In t_q, In t_k, In t_v,
                                       const T* weights, T* t_weights, Out t_out, T* scratch) const {
  share_examples(shape, scratch, [&](const Examples& own, T* memory) {
    Base::attention_tangent(own.shape, from(q, own.query), k, v, from(t_q, own.query), t_k, t_v,
                            weights + own.weights, t_weights + own.weights, from(t_out, own.query), memory);
  });
}

template <class T>
void TeamKernels<T>::attention_gradient_tangent(const AttentionShape& shape, In q, In k, In v, In t_q, In t_k,
                                                In t_v, const T* weights, const T* t_weights,
                                                const T* d_scores, In d_out, In t_d_out, Out t_d_q, Out t_d_k,
                                                Out t_d_v, T* scratch) const {
  share_examples(shape, scratch, [&](const Examples& own, T* memory) {
    Base::attention_gradient_tangent(own.shape, from(q, own.query), k, v, from(t_q, own.query), t_k, t_v,
                                     weights + own.weights, t_weights + own.weights, d_scores + own.weights,
                                     from(d_out, own.query), from(t_d_out, own.query), from(t_d_q, own.query),
                                     t_d_k, t_d_v, memory);
  });
}

template class TeamKernels<float>;
template class TeamKernels<double>;

}  // namespace pf2lora::native
