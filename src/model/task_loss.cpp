#include "model/task_loss.h"

#include <torch/types.h>

#include <limits>

#include "model/packed_rows.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// Scores [T, 2] of each example's tokens side by side, [N, 2, longest], -inf beyond its end.
Tensor by_example(const Tensor& scores, const PackedIndex& index) {
  const Tensor lengths = torch::bincount(index.token_example, {}, index.examples);
  const int64_t longest = lengths.max().item<int64_t>();
  const Tensor place = index.token_example * longest + index.positions;
  const Tensor padded = spread_rows(scores, place, index.examples * longest);
  const Tensor beyond =
      torch::arange(longest, lengths.options()).unsqueeze(0).ge(lengths.unsqueeze(1)).unsqueeze(1);
  return padded.view({index.examples, longest, 2})
      .transpose(1, 2)
      .masked_fill(beyond, -std::numeric_limits<double>::infinity());
}

Tensor sum_by_example(const Tensor& values, const PackedIndex& index) {
  return values.new_zeros({index.examples}).index_add(0, index.target_example, values);
}

// The span of the highest sum of scores that ends where it begins or behind: [N, 2].
Tensor best_spans(const Tensor& scores, const PackedIndex& index) {
  const Tensor padded = by_example(scores, index);
  const Tensor sums = padded.select(1, 0).unsqueeze(2) + padded.select(1, 1).unsqueeze(1);
  const int64_t longest = padded.size(2);
  const Tensor before = torch::ones({longest, longest}, torch::kBool).tril(-1).to(sums.device());
  const Tensor best =
      sums.masked_fill(before, -std::numeric_limits<double>::infinity()).flatten(1).argmax(1);
  return torch::stack({best.div(longest, "floor"), best.remainder(longest)}, 1);
}

}  // namespace

Tensor example_losses(Task task, const Tensor& scores, const PackedIndex& index) {
  const auto cross_entropy = [](const Tensor& rows, const Tensor& targets) {
    return torch::cross_entropy_loss(rows, targets, {}, at::Reduction::None);
  };
  switch (task) {
    case Task::classification:
      return cross_entropy(scores, index.labels);
    case Task::regression:
      return (scores.squeeze(1) - index.values).square();
    case Task::span: {
      const Tensor losses =
          cross_entropy(by_example(scores, index).flatten(0, 1), index.spans.flatten());
      return losses.view({-1, 2}).mean(1);
    }
    case Task::generation:
      return sum_by_example(cross_entropy(scores, index.target_tokens), index);
  }
  return {};
}

Losses judge(Task task, const Tensor& scores, const Tensor& losses, const PackedIndex& index) {
  Losses judged{.loss = losses, .units = index.units};
  switch (task) {
    case Task::classification:
      judged.predicted = scores.argmax(1);
      judged.correct = judged.predicted.eq(index.labels);
      break;
    case Task::regression:
      judged.predicted = scores.squeeze(1);
      break;
    case Task::span:
      judged.predicted = best_spans(scores, index);
      judged.correct = judged.predicted.eq(index.spans).all(1);
      break;
    case Task::generation:
      judged.correct = sum_by_example(scores.argmax(1).eq(index.target_tokens).to(torch::kFloat64), index);
      break;
  }
  return judged;
}

// Not a matrix product: 0 * NaN would carry one client's failure to the others of its group.
Tensor client_means(const Tensor& losses, const PackedIndex& index) {
  return (index.share * losses).masked_fill(index.share == 0, 0).sum(1);
}

}  // namespace pf2lora
