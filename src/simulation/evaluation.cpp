#include "simulation/evaluation.h"

#include <torch/torch.h>

#include "core/option_values.h"

namespace pf2lora {
namespace {

// The scores of a group's clients, summed over batches.
class ScoreSum {
 public:
  ScoreSum(size_t clients, int64_t confusion_classes)
      : classes_(confusion_classes),
        scores_(clients, Score{0, 0, std::vector<double>(size_t(classes_ * classes_), 0.0)}) {}

  void add(const Batch& batch, const Losses& losses) {
    const auto loss = losses.loss.to(torch::kCPU, torch::kFloat64).contiguous();
    const std::span all(loss.data_ptr<double>(), size_t(loss.numel()));
    if (!losses.predicted.defined()) {  // the matrix problem
      for (size_t g = 0; g < scores_.size(); ++g) {
        scores_[g].loss += all[g];
        scores_[g].correct = std::numeric_limits<double>::quiet_NaN();
      }
      return;
    }
    const auto answers = losses.predicted.to(torch::kCPU).contiguous();
    const std::span predicted(answers.data_ptr<int64_t>(), size_t(answers.numel()));
    for (size_t g = 0; g < scores_.size(); ++g)
      for (auto i = size_t(batch.client_offsets[g]); i < size_t(batch.client_offsets[g + 1]); ++i) {
        scores_[g].loss += all[i];
        scores_[g].correct += predicted[i] == batch.labels[i] ? 1 : 0;
        if (classes_ > 0) scores_[g].confusion[size_t(batch.labels[i] * classes_ + predicted[i])] += 1;
      }
  }
  const std::vector<Score>& scores() const { return scores_; }

 private:
  int64_t classes_;
  std::vector<Score> scores_;
};

void append(std::vector<double>& numbers, const Score& score) {
  numbers.insert(numbers.end(), {score.correct, score.loss});
  numbers.insert(numbers.end(), score.confusion.begin(), score.confusion.end());
}

Score no_score(const ScoreShape& shape) {
  Score none;
  none.confusion.assign(size_t(shape.confusion_classes * shape.confusion_classes),
                        std::numeric_limits<double>::quiet_NaN());
  return none;
}

}  // namespace

std::vector<double> ClientScores::pack() const {
  std::vector<double> numbers = {double(client)};
  for (const SplitScores* split : {&test, &validation}) {
    append(numbers, split->common);
    append(numbers, split->personal);
    for (const Score& score : split->adapted) append(numbers, score);
  }
  return numbers;
}

ClientScores ClientScores::unpack(std::span<const double> numbers, const ScoreShape& shape) {
  ClientScores scores{.client = int64_t(numbers[0])};
  auto next = numbers.begin() + 1;
  const auto take = [&] {
    Score score{next[0], next[1], {}};
    next += 2;
    score.confusion.assign(next, next + shape.confusion_classes * shape.confusion_classes);
    next += ptrdiff_t(score.confusion.size());
    return score;
  };
  for (SplitScores* split : {&scores.test, &scores.validation}) {
    if (split == &scores.validation && !shape.validation) break;
    split->common = take();
    split->personal = take();
    for (size_t i = 0; i < shape.adaptation_steps.size(); ++i) split->adapted.push_back(take());
  }
  return scores;
}

ScoreShape score_shape(const Options& options, const Algorithm& algorithm, const Problem& problem) {
  ScoreShape shape;
  const bool unadapted = algorithm.is_personal() || options.algorithm == "centralized";
  if (const auto given = parse_adaptation_steps(options.adaptation_steps))
    shape.adaptation_steps = *given;
  else if (!unadapted || options.held_out_clients > 0)
    shape.adaptation_steps = {options.local_steps};
  for (const ClientExamples& client : problem.partition().clients)
    shape.validation = shape.validation || !client.validation.empty();
  const auto classes = int64_t(problem.class_names().size());
  if (classes <= options.confusion_classes) shape.confusion_classes = classes;
  return shape;
}

std::vector<ClientScores> evaluate(const Algorithm& algorithm, const Problem& problem,
                                   const ClientGroup& group, const ScoreShape& shape, int64_t round) {
  std::vector<ClientScores> result;
  for (int64_t client : group.clients) result.push_back({.client = client});
  const auto measure = [&](const std::optional<Predictor>& predictor, auto place) {
    for (const Split split : {Split::test, Split::validation}) {
      if (split == Split::validation && !shape.validation) continue;
      ScoreSum sum(group.clients.size(), shape.confusion_classes);
      if (predictor)
        for (const Batch& batch : problem.evaluation_batches(group.clients, split))
          sum.add(batch, (*predictor)(batch));
      for (size_t g = 0; g < result.size(); ++g)
        place(split == Split::test ? result[g].test : result[g].validation) =
            predictor ? sum.scores()[g] : no_score(shape);
    }
  };
  measure(algorithm.common_predictor(group.common),
          [](SplitScores& scores) -> Score& { return scores.common; });
  if (algorithm.is_personal()) {
    measure(algorithm.personal_predictor(group),
            [](SplitScores& scores) -> Score& { return scores.personal; });
  } else {
    for (ClientScores& scores : result)
      for (SplitScores* split : {&scores.test, &scores.validation}) split->personal = split->common;
  }
  for (size_t i = 0; i < shape.adaptation_steps.size(); ++i) {
    // From the start every time: what adaptation begins with, such as moments of 0, is no part of the rows.
    ClientGroup copy{group.clients, group.common.clone(), group.own.clone()};
    const int64_t steps = shape.adaptation_steps[i];
    if (steps > 0) algorithm.adapt(copy, {Purpose::adaptation, round, 0, steps});
    measure(algorithm.personal_predictor(copy), [i](SplitScores& scores) -> Score& {
      scores.adapted.resize(i + 1);
      return scores.adapted[i];
    });
  }
  if (!shape.validation)
    for (ClientScores& scores : result) scores.validation = {};
  return result;
}

}  // namespace pf2lora
