// RunRecorder's closing summary, from the last evaluation and spectra.
#include <cmath>
#include <map>

#include "core/rank_measures.h"
#include "simulation/phases.h"
#include "simulation/run_recorder.h"

namespace pf2lora {
namespace {

// Measures of one spectrum.
void add_ranks(RankScores& scores, std::span<const double> values) {
  scores.numerical_rank_1e2.push_back(double(numerical_rank(values, 1e-2)));
  scores.numerical_rank_1e3.push_back(double(numerical_rank(values, 1e-3)));
  scores.stable_rank.push_back(stable_rank(values));
}

}  // namespace

RunSummary RunRecorder::scores() const {
  RunSummary summary;
  summary.held_out_clients = facts_.options.held_out_clients;
  if (task_ == Task::span) summary.right = "spans found";
  if (task_ == Task::generation) summary.right = "tokens foretold", summary.unit = "a token";
  summary.majority_accuracy = majority_accuracy_;
  if (scores_.empty()) return summary;
  for (const int64_t steps : facts_.scores.adaptation_steps) summary.adapted.push_back({steps, {}});
  for (const ClientScores& client : scores_) {
    const double units = task_ ? test_units_[size_t(client.client)] : 1;
    const auto add = [&](const Score& score, std::vector<double>& accuracy, std::vector<double>& loss) {
      accuracy.push_back(score.correct / units);
      loss.push_back(score.loss / units);
    };
    add(client.test.common, summary.common_accuracy, summary.common_loss);
    add(client.test.personal, summary.personal_accuracy, summary.personal_loss);
    for (size_t step = 0; step < summary.adapted.size(); ++step)
      add(client.test.adapted[step], summary.adapted[step].accuracy, summary.adapted[step].loss);
  }
  return summary;
}

RunSummary RunRecorder::summary() const {
  RunSummary summary = scores();
  summary.algorithm = facts_.options.algorithm;
  summary.rounds = facts_.options.rounds;
  summary.rounds_done = last_round_;
  summary.evaluated_round = evaluated_round_;
  summary.local_steps = facts_.options.local_steps;

  const int64_t training = facts_.options.clients - facts_.options.held_out_clients;
  const SpectraShape& shape = facts_.spectra;
  std::map<std::pair<std::string, std::string>, RankScores> ranks;  // by target and part
  for (const ClientSpectra& client : std::span(spectra_).first(std::min(spectra_.size(), size_t(training))))
    for (size_t site = 0; site < sites_.size(); ++site) {
      const auto add = [&](const std::string& part, const std::vector<double>& values, int64_t size) {
        if (size == 0) return;
        RankScores& scores = ranks[{sites_[site].target, part}];
        scores.target = sites_[site].target;
        scores.part = part;
        add_ranks(scores, std::span(values).subspan(site * size_t(size), size_t(size)));
      };
      if (client.client == spectra_.front().client) add("common", client.common, shape.common);
      add("client", client.own, shape.client);
      add("total", client.total, shape.total);
    }
  for (auto& [key, scores] : ranks) summary.ranks.push_back(std::move(scores));

  if (!task_)
    for (const ClientScores& client : scores_) {
      const double norm = target_norms_[size_t(client.client)];
      MatrixScores scores{.client = client.client};
      scores.relative_error = std::sqrt(2 * client.test.personal.loss) / norm;
      scores.common_error = std::sqrt(2 * client.test.common.loss) / norm;
      if (!spectra_.empty()) {
        const auto& values = spectra_[size_t(client.client)].total;
        scores.numerical_rank_1e2 = double(numerical_rank(values, 1e-2));
        scores.numerical_rank_1e3 = double(numerical_rank(values, 1e-3));
      }
      scores.target_rank = target_ranks_[size_t(client.client)];
      scores.held_out = client.client >= training;
      summary.matrix.push_back(scores);
    }
  for (size_t phase = 0; phase < kPhaseNames.size(); ++phase)
    summary.phases.push_back({kPhaseNames[phase], phase_seconds_[phase]});
  summary.files = {{"results", directory_.results()}};
  if (summary.rounds_done == summary.rounds) summary.files.push_back({"adapters", directory_.adapters()});
  summary.files.push_back({"checkpoint", directory_.checkpoint()});
  summary.files.push_back({"options", directory_.options()});
  return summary;
}

}  // namespace pf2lora
