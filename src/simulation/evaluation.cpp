#include "simulation/evaluation.h"

#include <torch/types.h>

#include "core/option_values.h"
#include "core/statistics.h"

namespace pf2lora {
namespace {

// Of all examples or clients.
std::vector<double> numbers(const torch::Tensor& x) {
  if (!x.defined()) return {};
  const auto values = x.to(torch::kCPU, torch::kFloat64).contiguous();
  return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
}

// The scores of a group's clients, summed over batches.
class ScoreSum {
 public:
  ScoreSum(size_t clients, const ScoreShape& shape)
      : shape_(shape), predicted_(clients), right_(clients), scores_(clients) {
    const auto classes = size_t(shape.confusion_classes);
    for (Score& score : scores_) {
      score.loss = 0;
      if (shape.right_answers) score.correct = 0;
      score.confusion.assign(classes * classes, 0.0);
    }
  }

  void add(const Batch& batch, const Losses& losses) {
    const std::vector<double> loss = numbers(losses.loss), correct = numbers(losses.correct);
    if (batch.client_offsets.empty()) {  // the matrix problem
      for (size_t g = 0; g < scores_.size(); ++g) scores_[g].loss += loss[g];
      return;
    }
    const bool classes = shape_.confusion_classes > 0;
    const std::vector<double> predicted =
        classes || shape_.correlations ? numbers(losses.predicted) : std::vector<double>();
    for (size_t g = 0; g < scores_.size(); ++g) {
      Score& score = scores_[g];
      for (auto i = size_t(batch.client_offsets[g]); i < size_t(batch.client_offsets[g + 1]); ++i) {
        score.loss += loss[i];
        if (shape_.right_answers) score.correct += correct[i];
        if (classes)
          score.confusion[size_t(batch.labels[i] * shape_.confusion_classes + int64_t(predicted[i]))] += 1;
        if (!shape_.correlations) continue;
        predicted_[g].push_back(predicted[i]);
        right_[g].push_back(batch.values[i]);
      }
    }
  }

  std::vector<Score> scores() const {
    std::vector<Score> all = scores_;
    for (size_t g = 0; shape_.correlations && g < all.size(); ++g) {
      all[g].pearson = pearson(predicted_[g], right_[g]);
      all[g].spearman = spearman(predicted_[g], right_[g]);
    }
    return all;
  }

 private:
  const ScoreShape& shape_;
  std::vector<std::vector<double>> predicted_, right_;  // of a regression, by client
  std::vector<Score> scores_;
};

void append(std::vector<double>& numbers, const Score& score) {
  numbers.insert(numbers.end(), {score.correct, score.loss, score.pearson, score.spearman});
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
    Score score{next[0], next[1], next[2], next[3], {}};
    next += 4;
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
  if (problem.task() == Task::classification && classes <= options.confusion_classes)
    shape.confusion_classes = classes;
  shape.correlations = problem.task() == Task::regression;
  shape.right_answers = problem.task() && !shape.correlations;
  return shape;
}

std::vector<ClientScores> evaluate(const Algorithm& algorithm, const Problem& problem,
                                   const ClientGroup& group, const ScoreShape& shape, int64_t round) {
  std::vector<ClientScores> result;
  for (int64_t client : group.clients) result.push_back({.client = client});
  const auto measure = [&](const std::optional<Predictor>& predictor, auto place) {
    for (const Split split : {Split::test, Split::validation}) {
      if (split == Split::validation && !shape.validation) continue;
      ScoreSum sum(group.clients.size(), shape);
      if (predictor)
        for (const Batch& batch : problem.evaluation_batches(group.clients, split))
          sum.add(batch, (*predictor)(batch));
      const std::vector<Score> found = sum.scores();
      for (size_t g = 0; g < result.size(); ++g)
        place(split == Split::test ? result[g].test : result[g].validation) =
            predictor ? found[g] : no_score(shape);
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
