// What scores are worth by task, in LibTorch's operations.
#pragma once
#include "io/dataset_file.h"
#include "model/model.h"
#include "model/packed_index.h"

namespace pf2lora {

// The loss of each example [N], differentiable in its scores:
//   classification  [N, classes]     cross-entropy
//   regression      [N, 1]           squared error
//   span            [T, 2]           mean of the cross-entropies of the first and of the last token
//   generation      [S, vocabulary]  cross-entropy, summed over the example's tokens to be generated
torch::Tensor example_losses(Task task, const torch::Tensor& scores, const PackedIndex& index);

// Losses [N] of these scores, as example_losses gives them, with predictions, and which of them are right.
Losses judge(Task task, const torch::Tensor& scores, const torch::Tensor& losses, const PackedIndex& index);

// Means over each client's units: [G].
torch::Tensor client_means(const torch::Tensor& losses, const PackedIndex& index);

}  // namespace pf2lora
