#include "native/squared_error.h"

#include "native/client_mean.h"

namespace pf2lora::native {

template <class T>
void squared_error(std::span<const T> scores, std::span<const T> targets, T* loss) {
  for (size_t i = 0; i < scores.size(); ++i) loss[i] = (scores[i] - targets[i]) * (scores[i] - targets[i]);
}

template <class T>
void squared_error_gradient(std::span<const T> scores, std::span<const T> targets, const BatchShape& batch,
                            T* d_scores) {
  const std::vector<T> weights = client_mean_weights<T>(batch, Per::example);
  for (size_t i = 0; i < weights.size(); ++i) d_scores[i] = 2 * (scores[i] - targets[i]) * weights[i];
}

template <class T>
void squared_error_gradient_tangent(const T* t_scores, const BatchShape& batch, T* t_d_scores) {
  const std::vector<T> weights = client_mean_weights<T>(batch, Per::example);
  for (size_t i = 0; i < weights.size(); ++i) t_d_scores[i] = 2 * t_scores[i] * weights[i];
}

template void squared_error<float>(std::span<const float>, std::span<const float>, float*);
template void squared_error_gradient<float>(std::span<const float>, std::span<const float>, const BatchShape&,
                                            float*);
template void squared_error_gradient_tangent<float>(const float*, const BatchShape&, float*);
template void squared_error<double>(std::span<const double>, std::span<const double>, double*);
template void squared_error_gradient<double>(std::span<const double>, std::span<const double>,
                                             const BatchShape&, double*);
template void squared_error_gradient_tangent<double>(const double*, const BatchShape&, double*);

}  // namespace pf2lora::native
