// Cross-entropy of the first and the last token of a span, each over the tokens of its example: the loss of
// extractive question answering (Devlin et al. 2019, arXiv 1810.04805). Of a client, the mean over its
// examples.
#pragma once
#include <cstdint>
#include <span>

#include "native/graph.h"

namespace pf2lora::native {

// Tokens first to last of an example, counted from 0 within it.
struct TokenSpan {
  int32_t first = 0, last = 0;
};

// scores [T, 2] before the softmax, of each token as the first and as the last of `spans` [N]; loss [N] in
// nats: the mean of the two.
template <class T>
void span_cross_entropy(const Kernels<T>& kernels, const T* scores, std::span<const TokenSpan> spans,
                        const BatchShape& batch, T* loss);

// d of each client's mean loss / d scores, [T, 2].
template <class T>
void span_cross_entropy_gradient(const Kernels<T>& kernels, const T* scores, std::span<const TokenSpan> spans,
                                 const BatchShape& batch, T* d_scores);

// The derivative of d_scores along t_scores.
template <class T>
void span_cross_entropy_gradient_tangent(const Kernels<T>& kernels, const T* scores, const T* t_scores,
                                         const BatchShape& batch, T* t_d_scores);

}  // namespace pf2lora::native
