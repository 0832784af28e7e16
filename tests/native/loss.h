// A loss of scores and its derivatives, ours or those of autograd.
#pragma once
#include "native/network.h"

namespace pf2lora::native {

// The sum of the clients' losses, d by the scores, and the derivative of that along t_scores.
struct LossDerivatives {
  Tensor loss, gradient, gradient_tangent;

  // In double, of `total` of the scores.
  static LossDerivatives of(const std::function<Tensor(const Tensor&)>& total, const Tensor& scores,
                            const Tensor& t_scores) {
    const Tensor one = torch::ones({}, torch::kFloat64);
    const Derivatives all =
        differentiate([&](const auto& in) { return total(in[0]); }, {scores.to(torch::kFloat64)},
                      {t_scores.to(torch::kFloat64)}, one, torch::zeros_like(one));
    return {all.value, all.gradient[0], all.gradient_tangent[0]};
  }

  double difference_from(const LossDerivatives& theirs) const {
    return std::max({difference(loss, theirs.loss), difference(gradient, theirs.gradient),
                     difference(gradient_tangent, theirs.gradient_tangent)});
  }
};

template <class T>
std::span<const T> numbers_of(const Tensor& x) {
  return {data<T>(x), size_t(x.numel())};
}

// The sum over clients of the mean of their rows of `losses`.
inline Tensor sum_of_client_means(const Tensor& losses, const BatchShape& batch, Per per) {
  Tensor sum = torch::zeros({}, losses.options());
  for (int64_t g = 0; g < batch.clients(); ++g) {
    const int64_t begin = batch.begin(per, g), end = batch.begin(per, g + 1);
    if (begin < end) sum = sum + losses.slice(0, begin, end).mean();
  }
  return sum;
}

}  // namespace pf2lora::native
