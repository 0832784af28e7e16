#include "native/team_kernels.h"

#include <algorithm>
#include <array>

namespace pf2lora::native {
namespace {

constexpr int64_t kLeastCost = 1 << 20;  // of a part, some 10 microseconds
constexpr int64_t kCostOfNumber = 32;    // about, of all that is done number by number
constexpr int64_t kPartsOfThread = 4;    // of large calls, so that a thread that is held up does fewer

template <class T>
T* at(T* data, int64_t offset) {
  return data == nullptr ? nullptr : data + offset;
}

template <class T>
Rows<T> from(Rows<T> matrix, int64_t row) {
  return {at(matrix.data, row * matrix.row), matrix.row};
}

// The terms from a row of A and a panel of B on.
template <class T>
class OwnTerms {
 public:
  OwnTerms(std::span<const Term<T>> of, int64_t row, int64_t panel) : count_(of.size()) {
    std::copy(of.begin(), of.end(), terms_.begin());
    for (Term<T>& term : std::span(terms_).first(count_)) {
      term.a = at(term.a, row * term.a_row);
      term.b = at(term.b, panel * term.b_panel);
    }
  }
  std::span<const Term<T>> terms() const { return std::span(terms_).first(count_); }

 private:
  std::array<Term<T>, kMostTerms> terms_;
  size_t count_;
};

}  // namespace

template <class T>
int64_t TeamKernels<T>::parts(int64_t cost, int64_t count) const {
  if (threads() == 1) return 1;
  const int64_t most = std::min(count, kPartsOfThread * threads());
  return std::max(std::min(cost / kLeastCost, most), int64_t{1});
}

// f(begin, end, thread) of the shares of [0, count).
template <class T>
template <class F>
void TeamKernels<T>::share(int64_t count, int64_t cost, const F& f) const {
  const int64_t parts = this->parts(cost, count);
  if (parts == 1) return f(int64_t{0}, count, int64_t{0});
  team_->run(parts,
             [&](int64_t i, int64_t thread) { f(count * i / parts, count * (i + 1) / parts, thread); });
}

// Panels: all threads read A, and each its own part of B. Where panels are too few, rows.
template <class T>
void TeamKernels<T>::product(std::span<const Term<T>> terms, int64_t rows, int64_t columns, Out c,
                             const T* bias, bool add) const {
  int64_t depth = 0;
  for (const Term<T>& term : terms) depth += term.a == nullptr ? 0 : term.depth;
  const int64_t cost = 2 * rows * columns * depth, panel = this->panel, panels = this->panels(columns);
  const auto part = [&](int64_t row, int64_t own_rows, int64_t column, int64_t own_columns) {
    const OwnTerms<T> own(terms, row, column / panel);
    Base::product(own.terms(), own_rows, own_columns, {c.data + row * c.row + column, c.row},
                  at(bias, column), add);
  };
  if (parts(cost, panels) >= parts(cost, rows))
    share(panels, cost, [&](int64_t begin, int64_t end, int64_t) {
      part(0, rows, begin * panel, std::min(columns, end * panel) - begin * panel);
    });
  else
    share(rows, cost, [&](int64_t begin, int64_t end, int64_t) { part(begin, end - begin, 0, columns); });
}

template <class T>
int64_t TeamKernels<T>::bf16_scratch(const Bf16Kernels& bf16, int64_t rows, int64_t depth) const {
  return bf16.scratch(rows, depth) * threads();
}

// Panels, no more parts than threads: each part cuts all of A into bf16 numbers.
template <class T>
void TeamKernels<T>::bf16_product(const Bf16Kernels& bf16, const Bf16Term& term,
                                  std::span<const Term<float>> terms, int64_t rows, int64_t columns,
                                  Rows<float> c, const float* bias, bool add, float* scratch) const {
  const int64_t panel = this->panel, panels = this->panels(columns);
  const int64_t most = std::clamp(panels, int64_t{1}, threads());
  share(most, 2 * rows * columns * term.depth, [&](int64_t begin, int64_t end, int64_t thread) {
    const int64_t first = panels * begin / most, column = first * panel;
    const OwnTerms<float> own(terms, 0, first);
    bf16.product({term.a, term.a_row, term.depth, term.b + bf16.panels_size(term.depth, column)}, own.terms(),
                 rows, std::min(columns, panels * end / most * panel) - column, {c.data + column, c.row},
                 at(bias, column), add, scratch + thread * bf16.scratch(rows, term.depth));
  });
}

template <class T>
void TeamKernels<T>::add_norm(bool centred, int64_t rows, int64_t width, const T* a, const T* b,
                              const T* gain, const T* shift, double epsilon, T* normal, T* scale,
                              T* out) const {
  const auto norm = centred ? Base::add_norm : Base::add_rms_norm;
  share(rows, rows * width * kCostOfNumber, [&](int64_t begin, int64_t end, int64_t) {
    const int64_t first = begin * width;
    norm(end - begin, width, at(a, first), at(b, first), gain, shift, epsilon, normal + first, scale + begin,
         out + first);
  });
}

template <class T>
void TeamKernels<T>::add_norm_gradient(bool centred, int64_t rows, int64_t width, const T* d_out,
                                       const T* gain, const T* normal, const T* scale, T* d_x) const {
  const auto norm = centred ? Base::add_norm_gradient : Base::add_rms_norm_gradient;
  share(rows, rows * width * kCostOfNumber, [&](int64_t begin, int64_t end, int64_t) {
    const int64_t first = begin * width;
    norm(end - begin, width, d_out + first, gain, normal + first, scale + begin, d_x + first);
  });
}

template <class T>
void TeamKernels<T>::add_norm_tangent(bool centred, int64_t rows, int64_t width, const T* t_a, const T* t_b,
                                      const T* gain, const T* normal, const T* scale, T* t_normal, T* t_scale,
                                      T* t_out) const {
  const auto norm = centred ? Base::add_norm_tangent : Base::add_rms_norm_tangent;
  share(rows, rows * width * kCostOfNumber, [&](int64_t begin, int64_t end, int64_t) {
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
  share(rows, rows * width * kCostOfNumber, [&](int64_t begin, int64_t end, int64_t) {
    const int64_t first = begin * width;
    norm(end - begin, width, d_out + first, t_d_out + first, gain, normal + first, t_normal + first,
         scale + begin, t_scale + begin, d_x + first, t_d_x + first);
  });
}

template <class T>
void TeamKernels<T>::activation(Activation kind, int64_t count, const T* in, T* out, T* slope,
                                T* curvature) const {
  share(count, count * kCostOfNumber, [&](int64_t begin, int64_t end, int64_t) {
    Base::activation(kind, end - begin, in + begin, out + begin, at(slope, begin), at(curvature, begin));
  });
}

template <class T>
void TeamKernels<T>::multiply(int64_t count, const T* a, const T* b, const T* c, const T* d, const T* e,
                              T* out) const {
  share(count, count * kCostOfNumber, [&](int64_t begin, int64_t end, int64_t) {
    Base::multiply(end - begin, a + begin, b + begin, at(c, begin), at(d, begin), at(e, begin), out + begin);
  });
}

template <class T>
void TeamKernels<T>::add(int64_t count, const T* a, const T* b, T* out) const {
  share(count, count * kCostOfNumber, [&](int64_t begin, int64_t end, int64_t) {
    Base::add(end - begin, a + begin, b + begin, out + begin);
  });
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
  const int64_t parts = this->parts(4 * all * shape.heads * shape.width, count);
  std::vector<Examples> shares;
  int64_t before = 0, weights = 0;
  for (int64_t part = 0, begin = 0, end = 0; part < parts; ++part, begin = end) {
    for (; end < count && (part + 1 == parts || before < all * (part + 1) / parts); ++end)
      before += scores(end);
    if (begin == end && part > 0) continue;
    Examples& share = shares.emplace_back(Examples{shape, begin * shape.queries, weights});
    share.shape.offsets = shape.offsets.subspan(size_t(begin), size_t(end - begin) + 1);
    weights += Base::attention_weights(share.shape);
  }
  return shares;
}

template <class T>
template <class F>
void TeamKernels<T>::share_examples(const AttentionShape& shape, T* scratch, const F& f) const {
  if (threads() == 1) return f(Examples{shape}, scratch);
  const std::vector<Examples> shares = examples(shape);
  if (shares.size() == 1) return f(shares.front(), scratch);
  const int64_t own = Base::attention_scratch(shape);
  team_->run(int64_t(shares.size()),
             [&](int64_t i, int64_t thread) { f(shares[size_t(i)], scratch + thread * own); });
}

template <class T>
int64_t TeamKernels<T>::attention_scratch(const AttentionShape& shape) const {
  return Base::attention_scratch(shape) * threads();
}

template <class T>
void TeamKernels<T>::attention(const AttentionShape& shape, In q, In k, In v, T* weights, Out out,
                               T* scratch) const {
  share_examples(shape, scratch, [&](const Examples& own, T* memory) {
    Base::attention(own.shape, from(q, own.first_query), k, v, at(weights, own.first_weight),
                    from(out, own.first_query), memory);
  });
}

template <class T>
void TeamKernels<T>::attention_gradient(const AttentionShape& shape, In q, In k, In v, const T* weights,
                                        In d_out, T* d_scores, Out d_q, Out d_k, Out d_v, T* scratch) const {
  share_examples(shape, scratch, [&](const Examples& own, T* memory) {
    Base::attention_gradient(own.shape, from(q, own.first_query), k, v, weights + own.first_weight,
                             from(d_out, own.first_query), at(d_scores, own.first_weight),
                             from(d_q, own.first_query), d_k, d_v, memory);
  });
}

template <class T>
void TeamKernels<T>::attention_tangent(const AttentionShape& shape, In q, In k, In v, In t_q, In t_k, In t_v,
                                       const T* weights, T* t_weights, Out t_out, T* scratch) const {
  share_examples(shape, scratch, [&](const Examples& own, T* memory) {
    Base::attention_tangent(own.shape, from(q, own.first_query), k, v, from(t_q, own.first_query), t_k, t_v,
                            weights + own.first_weight, t_weights + own.first_weight,
                            from(t_out, own.first_query), memory);
  });
}

template <class T>
void TeamKernels<T>::attention_gradient_tangent(const AttentionShape& shape, In q, In k, In v, In t_q, In t_k,
                                                In t_v, const T* weights, const T* t_weights,
                                                const T* d_scores, In d_out, In t_d_out, Out t_d_q, Out t_d_k,
                                                Out t_d_v, T* scratch) const {
  share_examples(shape, scratch, [&](const Examples& own, T* memory) {
    Base::attention_gradient_tangent(own.shape, from(q, own.first_query), k, v, from(t_q, own.first_query),
                                     t_k, t_v, weights + own.first_weight, t_weights + own.first_weight,
                                     d_scores + own.first_weight, from(d_out, own.first_query),
                                     from(t_d_out, own.first_query), from(t_d_q, own.first_query), t_d_k,
                                     t_d_v, memory);
  });
}

template class TeamKernels<float>;
template class TeamKernels<double>;

}  // namespace pf2lora::native
