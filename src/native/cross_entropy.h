// Cross-entropy of scores before the softmax, row by row: of classes, whose rows are examples, and of a
// language model's vocabulary, whose rows are the tokens to be foretold. A client's loss is the sum of its
// rows' times their weights (client_mean_weights() for the mean over them).
#pragma once
#include <cstdint>
#include <span>

#include "native/kernels.h"

namespace pf2lora::native {

// scores [R, classes] before the softmax, labels [R]; loss [R] in nats, predicted [R] the first class of
// the highest score.
template <class T>
void cross_entropy(const Kernels<T>& kernels, std::span<const T> scores, std::span<const int32_t> labels,
                   T* loss, int64_t* predicted);

// weight (softmax - one-hot) of each row, [R, classes]; d_scores may be scores.
template <class T>
void cross_entropy_gradient(const Kernels<T>& kernels, std::span<const T> scores,
                            std::span<const int32_t> labels, std::span<const T> weights, T* d_scores);

// The derivative of d_scores along t_scores; t_d_scores may be t_scores.
template <class T>
void cross_entropy_gradient_tangent(const Kernels<T>& kernels, std::span<const T> scores, const T* t_scores,
                                    std::span<const T> weights, T* t_d_scores);

}  // namespace pf2lora::native
