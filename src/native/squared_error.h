// Squared error of one score an example: the loss of regression, of a client the mean over its examples.
#pragma once
#include <span>

#include "native/graph.h"

namespace pf2lora::native {

// scores and targets [N]; loss [N].
template <class T>
void squared_error(std::span<const T> scores, std::span<const T> targets, T* loss);

// d of each client's mean loss / d scores: 2 (score - target) / examples of the client. [N]
template <class T>
void squared_error_gradient(std::span<const T> scores, std::span<const T> targets, const BatchShape& batch,
                            T* d_scores);

// The derivative of d_scores along t_scores [N].
template <class T>
void squared_error_gradient_tangent(const T* t_scores, const BatchShape& batch, T* t_d_scores);

}  // namespace pf2lora::native
