// What scores are worth by task, in the native backend: losses, their gradient, and its tangent.
#pragma once
#include "data/batch.h"
#include "io/dataset_file.h"
#include "model/model.h"
#include "native/graph.h"

namespace pf2lora {

// Of scores [S, width], as example_losses() has them.
template <class T>
Losses native_losses(Task task, const native::Kernels<T>& kernels, const torch::Tensor& scores,
                     const Batch& batch, const native::BatchShape& shape);

// d of each client's mean loss / d scores, [S, width].
template <class T>
void native_loss_gradient(Task task, const native::Kernels<T>& kernels, std::span<const T> scores,
                          const Batch& batch, const native::BatchShape& shape, T* d_scores);

// The derivative of d_scores along t_scores [S, width].
template <class T>
void native_loss_gradient_tangent(Task task, const native::Kernels<T>& kernels, std::span<const T> scores,
                                  const T* t_scores, const native::BatchShape& shape, T* t_d_scores);

}  // namespace pf2lora
