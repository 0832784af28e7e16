#include "native/span_cross_entropy.h"

#include "native/client_mean.h"

namespace pf2lora::native {
namespace {

// One end of an example's span: column `end` of the rows of its tokens.
struct End {
  size_t example, end;
  int64_t begin, tokens;

  template <class T>
  std::vector<T> get(const T* scores) const {
    std::vector<T> column;
    for (int64_t t = 0; t < tokens; ++t) column.push_back(scores[2 * (begin + t) + int64_t(end)]);
    return column;
  }
  template <class T>
  void put(const std::vector<T>& column, T* scores) const {
    for (int64_t t = 0; t < tokens; ++t) scores[2 * (begin + t) + int64_t(end)] = column[size_t(t)];
  }
  size_t of(const TokenSpan& span) const { return size_t(end == 0 ? span.first : span.last); }
};

template <class Visit>
void each_end(const BatchShape& batch, const Visit& visit) {
  for (size_t i = 0; i + 1 < batch.token_offsets.size(); ++i)
    for (const size_t end : {0, 1}) {
      const int64_t begin = batch.token_offsets[i];
      visit(End{i, end, begin, batch.token_offsets[i + 1] - begin});
    }
}

}  // namespace

template <class T>
void span_cross_entropy(const Kernels<T>& kernels, const T* scores, std::span<const TokenSpan> spans,
                        const BatchShape& batch, T* loss) {
  each_end(batch, [&](const End& end) {
    std::vector<T> column = end.get(scores);
    const T own = column[end.of(spans[end.example])];
    const T half = (kernels.softmax(end.tokens, column.data(), 1, column.data()) - own) / 2;
    loss[end.example] = end.end == 0 ? half : loss[end.example] + half;
  });
}

template <class T>
void span_cross_entropy_gradient(const Kernels<T>& kernels, const T* scores, std::span<const TokenSpan> spans,
                                 const BatchShape& batch, T* d_scores) {
  const std::vector<T> weights = client_mean_weights<T>(batch, Per::example);
  each_end(batch, [&](const End& end) {
    std::vector<T> column = end.get(scores);
    const T weight = weights[end.example] / 2;
    kernels.softmax(end.tokens, column.data(), weight, column.data());
    column[end.of(spans[end.example])] -= weight;
    end.put(column, d_scores);
  });
}

template <class T>
void span_cross_entropy_gradient_tangent(const Kernels<T>& kernels, const T* scores, const T* t_scores,
                                         const BatchShape& batch, T* t_d_scores) {
  const std::vector<T> weights = client_mean_weights<T>(batch, Per::example);
  each_end(batch, [&](const End& end) {
    std::vector<T> shares = end.get(scores), moved = end.get(t_scores);
    kernels.softmax(end.tokens, shares.data(), 1, shares.data());
    kernels.softmax_tangent(end.tokens, shares.data(), moved.data(), weights[end.example] / 2, moved.data());
    end.put(moved, t_d_scores);
  });
}

template void span_cross_entropy<float>(const Kernels<float>&, const float*, std::span<const TokenSpan>,
                                        const BatchShape&, float*);
template void span_cross_entropy_gradient<float>(const Kernels<float>&, const float*,
                                                 std::span<const TokenSpan>, const BatchShape&, float*);
template void span_cross_entropy_gradient_tangent<float>(const Kernels<float>&, const float*, const float*,
                                                         const BatchShape&, float*);
template void span_cross_entropy<double>(const Kernels<double>&, const double*, std::span<const TokenSpan>,
                                         const BatchShape&, double*);
template void span_cross_entropy_gradient<double>(const Kernels<double>&, const double*,
                                                  std::span<const TokenSpan>, const BatchShape&, double*);
template void span_cross_entropy_gradient_tangent<double>(const Kernels<double>&, const double*,
                                                          const double*, const BatchShape&, double*);

}  // namespace pf2lora::native
