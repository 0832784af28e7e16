#include "simulation/evaluation.h"

#include <torch/torch.h>

#include "core/option_values.h"

namespace pf2lora {
namespace {

Score score(const Problem& problem, const std::vector<Batch>& batches, const AdapterSet& adapters) {
  if (batches.empty()) return {};
  Score total{0, 0};
  for (const Batch& batch : batches) {
    const Losses losses = problem.model().loss(batch, adapters);
    total.loss += losses.loss.to(torch::kFloat64).sum().item<double>();
    if (!losses.predicted.defined()) {
      total.correct = std::numeric_limits<double>::quiet_NaN();
      continue;
    }
    const auto labels = torch::tensor(std::vector<int64_t>(batch.labels.begin(), batch.labels.end()));
    total.correct += double((losses.predicted.cpu() == labels).sum().item<int64_t>());
  }
  return total;
}

}  // namespace

std::vector<double> ClientScores::pack() const {
  std::vector<double> numbers = {double(client), common.correct, common.loss, personal.correct,
                                 personal.loss};
  for (const Score& score : adapted) numbers.insert(numbers.end(), {score.correct, score.loss});
  return numbers;
}

ClientScores ClientScores::unpack(std::span<const double> numbers) {
  ClientScores scores{int64_t(numbers[0]), {numbers[1], numbers[2]}, {numbers[3], numbers[4]}, {}};
  for (size_t i = 5; i < numbers.size(); i += 2) scores.adapted.push_back({numbers[i], numbers[i + 1]});
  return scores;
}

std::vector<int64_t> adaptation_steps(const Options& options, const Algorithm& algorithm) {
  if (const auto given = parse_adaptation_steps(options.adaptation_steps)) return *given;
  if (algorithm.is_personal() || options.algorithm == "centralized") return {};
  return {options.local_steps};
}

ClientScores evaluate(const Algorithm& algorithm, const Problem& problem, const ClientStore& store,
                      int64_t client, const torch::Tensor& common,
                      const std::vector<int64_t>& adaptation_steps, int64_t round) {
  const std::vector<Batch> batches = problem.test_batches(client);
  ClientGroup group = store.group({client}, common);
  ClientScores scores{.client = client};
  if (const auto model = algorithm.common_model(group.common))
    scores.common = score(problem, batches, *model);
  scores.personal =
      algorithm.is_personal() ? score(problem, batches, algorithm.personal_model(group)) : scores.common;

  int64_t done = 0;
  for (int64_t steps : adaptation_steps) {
    if (steps > done && problem.train_examples(client) > 0)
      algorithm.local_steps(group, {Purpose::adaptation, round, done, steps - done});
    done = steps;
    scores.adapted.push_back(score(problem, batches, algorithm.personal_model(group)));
  }
  return scores;
}

}  // namespace pf2lora
