#include "native/cross_entropy.h"

#include <algorithm>
#include <cmath>

namespace pf2lora::native {
namespace {

// softmax of scores [classes]; the log of its denominator, the largest score added, comes back.
template <class T>
T softmax(const T* scores, int64_t classes, T* out) {
  const T largest = *std::max_element(scores, scores + classes);
  T sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += out[c] = std::exp(scores[c] - largest);
  for (int64_t c = 0; c < classes; ++c) out[c] /= sum;
  return largest + std::log(sum);
}

// Calls with each example and the number of examples of its client.
template <class Visit>
void each_example(const BatchShape& batch, Visit visit) {
  for (int64_t g = 0; g < batch.clients(); ++g) {
    const int64_t begin = batch.begin(Per::example, g), end = batch.begin(Per::example, g + 1);
    for (int64_t i = begin; i < end; ++i) visit(i, end - begin);
  }
}

}  // namespace

template <class T>
void cross_entropy(std::span<const T> scores, std::span<const int32_t> labels, int64_t classes, T* loss,
                   int64_t* predicted) {
  std::vector<T> shares(static_cast<size_t>(classes));
  for (size_t i = 0; i < labels.size(); ++i) {
    const T* row = scores.data() + int64_t(i) * classes;
    loss[i] = softmax(row, classes, shares.data()) - row[labels[i]];
    predicted[i] = std::max_element(row, row + classes) - row;
  }
}

template <class T>
void cross_entropy_gradient(std::span<const T> scores, std::span<const int32_t> labels,
                            const BatchShape& batch, T* d_scores) {
  if (batch.examples() == 0) return;
  const int64_t classes = int64_t(scores.size()) / batch.examples();
  each_example(batch, [&](int64_t i, int64_t of_client) {
    T* row = d_scores + i * classes;
    softmax(scores.data() + i * classes, classes, row);
    row[labels[size_t(i)]] -= 1;
    for (int64_t c = 0; c < classes; ++c) row[c] /= T(of_client);
  });
}

template <class T>
void cross_entropy_gradient_tangent(std::span<const T> scores, const T* t_scores, const BatchShape& batch,
                                    T* t_d_scores) {
  if (batch.examples() == 0) return;
  const int64_t classes = int64_t(scores.size()) / batch.examples();
  std::vector<T> shares(static_cast<size_t>(classes));
  each_example(batch, [&](int64_t i, int64_t of_client) {
    softmax(scores.data() + i * classes, classes, shares.data());
    const T* moved = t_scores + i * classes;
    T mean = 0;
    for (int64_t c = 0; c < classes; ++c) mean += shares[size_t(c)] * moved[c];
    for (int64_t c = 0; c < classes; ++c)
      t_d_scores[i * classes + c] = shares[size_t(c)] * (moved[c] - mean) / T(of_client);
  });
}

template void cross_entropy<float>(std::span<const float>, std::span<const int32_t>, int64_t, float*,
                                   int64_t*);
template void cross_entropy<double>(std::span<const double>, std::span<const int32_t>, int64_t, double*,
                                    int64_t*);
template void cross_entropy_gradient<float>(std::span<const float>, std::span<const int32_t>,
                                            const BatchShape&, float*);
template void cross_entropy_gradient<double>(std::span<const double>, std::span<const int32_t>,
                                             const BatchShape&, double*);
template void cross_entropy_gradient_tangent<float>(std::span<const float>, const float*, const BatchShape&,
                                                    float*);
template void cross_entropy_gradient_tangent<double>(std::span<const double>, const double*,
                                                     const BatchShape&, double*);

}  // namespace pf2lora::native
