// Cross-entropy of scores before the softmax, client by client the mean over its examples.
#pragma once
#include <cstdint>
#include <span>

#include "native/graph.h"

namespace pf2lora::native {

// scores [N, classes], labels [N]; loss [N] in nats, predicted [N] the first class of the highest score.
template <class T>
void cross_entropy(std::span<const T> scores, std::span<const int32_t> labels, int64_t classes, T* loss,
                   int64_t* predicted);

// d of each client's mean loss / d scores: (softmax - one-hot) / examples of the client. [N, classes]
template <class T>
void cross_entropy_gradient(std::span<const T> scores, std::span<const int32_t> labels,
                            const BatchShape& batch, T* d_scores);

// The derivative of d_scores along t_scores.
template <class T>
void cross_entropy_gradient_tangent(std::span<const T> scores, const T* t_scores, const BatchShape& batch,
                                    T* t_d_scores);

}  // namespace pf2lora::native
