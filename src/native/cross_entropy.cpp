#include "native/cross_entropy.h"

#include <algorithm>
#include <vector>

namespace pf2lora::native {

template <class T>
void cross_entropy(const Kernels<T>& kernels, std::span<const T> scores, std::span<const int32_t> labels,
                   T* loss, int64_t* predicted) {
  if (labels.empty()) return;
  const size_t classes = scores.size() / labels.size();
  std::vector<T> shares(classes);
  for (size_t i = 0; i < labels.size(); ++i) {
    const T* row = scores.data() + i * classes;
    loss[i] = kernels.softmax(int64_t(classes), row, 1, shares.data()) - row[labels[i]];
    predicted[i] = std::max_element(row, row + classes) - row;
  }
}

template <class T>
void cross_entropy_gradient(const Kernels<T>& kernels, std::span<const T> scores,
                            std::span<const int32_t> labels, std::span<const T> weights, T* d_scores) {
  if (labels.empty()) return;
  const size_t classes = scores.size() / labels.size();
  for (size_t i = 0; i < labels.size(); ++i) {
    T* row = d_scores + i * classes;
    kernels.softmax(int64_t(classes), scores.data() + i * classes, weights[i], row);
    row[labels[i]] -= weights[i];
  }
}

template <class T>
void cross_entropy_gradient_tangent(const Kernels<T>& kernels, std::span<const T> scores, const T* t_scores,
                                    std::span<const T> weights, T* t_d_scores) {
  if (weights.empty()) return;
  const size_t classes = scores.size() / weights.size();
  std::vector<T> shares(classes);
  for (size_t i = 0; i < weights.size(); ++i) {
    const size_t at = i * classes;
    kernels.softmax(int64_t(classes), scores.data() + at, 1, shares.data());
    kernels.softmax_tangent(int64_t(classes), shares.data(), t_scores + at, weights[i], t_d_scores + at);
  }
}

template void cross_entropy<float>(const Kernels<float>&, std::span<const float>, std::span<const int32_t>,
                                   float*, int64_t*);
template void cross_entropy_gradient<float>(const Kernels<float>&, std::span<const float>,
                                            std::span<const int32_t>, std::span<const float>, float*);
template void cross_entropy_gradient_tangent<float>(const Kernels<float>&, std::span<const float>,
                                                    const float*, std::span<const float>, float*);
template void cross_entropy<double>(const Kernels<double>&, std::span<const double>, std::span<const int32_t>,
                                    double*, int64_t*);
template void cross_entropy_gradient<double>(const Kernels<double>&, std::span<const double>,
                                             std::span<const int32_t>, std::span<const double>, double*);
template void cross_entropy_gradient_tangent<double>(const Kernels<double>&, std::span<const double>,
                                                     const double*, std::span<const double>, double*);

}  // namespace pf2lora::native
