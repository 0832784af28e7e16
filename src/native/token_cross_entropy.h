// Cross-entropy of the scores of a vocabulary, row by row: the loss of language models, whose rows are the
// tokens to be foretold. A client's loss is the sum of its rows' times their weights (client_mean_weights()
// for the mean over its tokens).
#pragma once
#include <cstdint>
#include <span>

#include "native/kernels.h"

namespace pf2lora::native {

// scores [R, vocabulary] before the softmax, labels [R]; loss [R] in nats, predicted [R] the first token of
// the highest score.
template <class T>
void token_cross_entropy(const Kernels<T>& kernels, std::span<const T> scores,
                         std::span<const int32_t> labels, T* loss, int64_t* predicted);

// weight (softmax - one-hot) of each row, [R, vocabulary]; d_scores may be scores.
template <class T>
void token_cross_entropy_gradient(const Kernels<T>& kernels, std::span<const T> scores,
                                  std::span<const int32_t> labels, std::span<const T> weights, T* d_scores);

// The derivative of d_scores along t_scores; t_d_scores may be t_scores.
template <class T>
void token_cross_entropy_gradient_tangent(const Kernels<T>& kernels, std::span<const T> scores,
                                          const T* t_scores, std::span<const T> weights, T* t_d_scores);

}  // namespace pf2lora::native
