#include "model/native_loss.h"

#include <torch/types.h>

#include <algorithm>

#include "native/client_mean.h"
#include "native/cross_entropy.h"
#include "native/span_cross_entropy.h"
#include "native/squared_error.h"

namespace pf2lora {

using native::BatchShape;
using native::Per;
using torch::Tensor;

namespace {

template <class T>
std::vector<T> values_of(const Batch& batch) {
  return {batch.values.begin(), batch.values.end()};
}

std::vector<native::TokenSpan> spans_of(const Batch& batch) {
  std::vector<native::TokenSpan> spans;
  for (size_t i = 0; i < batch.spans.size(); i += 2) spans.push_back({batch.spans[i], batch.spans[i + 1]});
  return spans;
}

// The span of the highest sum of scores [tokens, 2] that ends where it begins or behind.
template <class T>
std::pair<int64_t, int64_t> best_span(const T* scores, int64_t tokens) {
  int64_t first = 0, best_first = 0, best_last = 0;
  T best = scores[0] + scores[1];
  for (int64_t last = 0; last < tokens; ++last) {
    if (scores[2 * last] > scores[2 * first]) first = last;
    if (const T sum = scores[2 * first] + scores[2 * last + 1]; sum > best)
      best = sum, best_first = first, best_last = last;
  }
  return {best_first, best_last};
}

// The tokens to be generated of all examples, end to end.
std::vector<int32_t> target_tokens(const Batch& batch) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < batch.targets.size(); ++i)
    tokens.insert(tokens.end(), batch.tokens.begin() + batch.token_offsets[i] + batch.targets[i],
                  batch.tokens.begin() + batch.token_offsets[i + 1]);
  return tokens;
}

}  // namespace

template <class T>
Losses native_losses(Task task, const native::Kernels<T>& kernels, const Tensor& scores, const Batch& batch,
                     const BatchShape& shape) {
  const int64_t examples = shape.examples();
  const std::span<const T> values(scores.data_ptr<T>(), size_t(scores.numel()));
  Losses losses{.loss = torch::zeros({examples}, scores.options())};
  T* const loss = losses.loss.template data_ptr<T>();
  switch (task) {
    case Task::classification:
      losses.predicted = torch::empty({examples}, torch::kInt64);
      native::cross_entropy<T>(kernels, values, batch.labels, loss, losses.predicted.data_ptr<int64_t>());
      losses.correct = losses.predicted.eq(torch::tensor(batch.labels));
      break;
    case Task::regression:
      losses.predicted = scores.squeeze(1);
      native::squared_error<T>(values, values_of<T>(batch), loss);
      break;
    case Task::span: {
      native::span_cross_entropy<T>(kernels, values.data(), spans_of(batch), shape, loss);
      losses.predicted = torch::empty({examples, 2}, torch::kInt64);
      for (int64_t i = 0; i < examples; ++i) {
        const auto [first, last] =
            best_span(&values[size_t(2 * shape.token_offsets[size_t(i)])], batch.length(size_t(i)));
        losses.predicted[i][0] = first;
        losses.predicted[i][1] = last;
      }
      losses.correct = losses.predicted.eq(torch::tensor(batch.spans).view({-1, 2})).all(1);
      break;
    }
    case Task::generation: {
      const std::vector<int32_t> tokens = target_tokens(batch);
      std::vector<T> of_token(tokens.size());
      std::vector<int64_t> predicted(tokens.size());
      native::cross_entropy<T>(kernels, values, tokens, of_token.data(), predicted.data());
      losses.correct = torch::zeros({examples}, torch::kFloat64);
      losses.units = torch::zeros({examples}, scores.options());
      size_t next = 0;
      for (int64_t i = 0; i < examples; ++i) {
        const int64_t units = batch.length(size_t(i)) - batch.targets[size_t(i)];
        losses.units.template data_ptr<T>()[i] = T(units);
        for (int64_t t = 0; t < units; ++t, ++next) {
          loss[i] += of_token[next];
          losses.correct.template data_ptr<double>()[i] += predicted[next] == tokens[next] ? 1 : 0;
        }
      }
      break;
    }
  }
  return losses;
}

template <class T>
void native_loss_gradient(Task task, const native::Kernels<T>& kernels, std::span<const T> scores,
                          const Batch& batch, const BatchShape& shape, T* d_scores) {
  switch (task) {
    case Task::classification:
      return native::cross_entropy_gradient<T>(kernels, scores, batch.labels,
                                               native::client_mean_weights<T>(shape, Per::example), d_scores);
    case Task::regression:
      return native::squared_error_gradient<T>(scores, values_of<T>(batch), shape, d_scores);
    case Task::span:
      return native::span_cross_entropy_gradient<T>(kernels, scores.data(), spans_of(batch), shape, d_scores);
    case Task::generation:
      return native::cross_entropy_gradient<T>(kernels, scores, target_tokens(batch),
                                               native::client_mean_weights<T>(shape, Per::target), d_scores);
  }
}

template <class T>
void native_loss_gradient_tangent(Task task, const native::Kernels<T>& kernels, std::span<const T> scores,
                                  const T* t_scores, const BatchShape& shape, T* t_d_scores) {
  switch (task) {
    case Task::classification:
      return native::cross_entropy_gradient_tangent<T>(
          kernels, scores, t_scores, native::client_mean_weights<T>(shape, Per::example), t_d_scores);
    case Task::regression:
      return native::squared_error_gradient_tangent<T>(t_scores, shape, t_d_scores);
    case Task::span:
      return native::span_cross_entropy_gradient_tangent<T>(kernels, scores.data(), t_scores, shape,
                                                            t_d_scores);
    case Task::generation:
      return native::cross_entropy_gradient_tangent<T>(
          kernels, scores, t_scores, native::client_mean_weights<T>(shape, Per::target), t_d_scores);
  }
}

template Losses native_losses<float>(Task, const native::Kernels<float>&, const Tensor&, const Batch&,
                                     const BatchShape&);
template Losses native_losses<double>(Task, const native::Kernels<double>&, const Tensor&, const Batch&,
                                      const BatchShape&);
template void native_loss_gradient<float>(Task, const native::Kernels<float>&, std::span<const float>,
                                          const Batch&, const BatchShape&, float*);
template void native_loss_gradient<double>(Task, const native::Kernels<double>&, std::span<const double>,
                                           const Batch&, const BatchShape&, double*);
template void native_loss_gradient_tangent<float>(Task, const native::Kernels<float>&, std::span<const float>,
                                                  const float*, const BatchShape&, float*);
template void native_loss_gradient_tangent<double>(Task, const native::Kernels<double>&,
                                                   std::span<const double>, const double*, const BatchShape&,
                                                   double*);

}  // namespace pf2lora
