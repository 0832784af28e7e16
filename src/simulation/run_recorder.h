// What rank 0 writes down of a run: results.h5 and options.ini, and the closing summary.
#pragma once
#include "io/output_directory.h"
#include "io/results.h"
#include "simulation/answers.h"
#include "simulation/evaluation.h"
#include "simulation/report.h"
#include "simulation/run_history.h"
#include "simulation/run_state.h"
#include "simulation/spectra_table.h"

namespace pf2lora {

struct RunFacts {
  Options options;
  OptionSet* method_options;
  std::string config;  // options.ini
  RunHistory history;  // this call included
  Texts inputs;        // of data and model
  ScoreShape scores;
  RunPlan plan;
  SpectraShape spectra;
  AnswerShape answers;
};

class RunRecorder {
 public:
  // `resumed_round`: rounds that a resumed run has done already.
  RunRecorder(const OutputDirectory& directory, RunFacts facts, const Problem& problem,
              const Algorithm& algorithm, std::optional<int64_t> resumed_round);

  // `records` as packed by ClientScores and ClientSpectra, of all clients in any order.
  void evaluation(int64_t round, const std::vector<std::vector<double>>& records);
  void spectra(int64_t round, const std::vector<std::vector<double>>& records);
  // `records` of answer(), of all clients in any order.
  void answers(int64_t round, const std::vector<std::vector<double>>& records);
  // `trained`: client, loss, gradient evaluations, bytes up, bytes down, rank; `seconds`: by process, by
  // phase.
  RoundReport round(int64_t round, const std::vector<std::vector<double>>& trained,
                    const std::vector<std::vector<double>>& seconds);

  // For the summary: what passed since the last round was recorded, by process and phase.
  void add_phases(const std::vector<std::vector<double>>& seconds);

  void flush(int64_t round) { recorder_.flush(round); }
  // Writes results.h5. `history` has as many segments as the facts said.
  void join(const RunHistory& history);
  // Joins results.h5 of a complete run and removes its segments.
  void finish(const RunHistory& history);
  // But for what this call took, seconds and memory.
  RunSummary summary() const;

 private:
  // A summary of the last evaluation alone.
  RunSummary scores() const;
  // Its means over clients.
  RoundReport mean_scores() const;
  void put_static(const Problem& problem, const Algorithm& algorithm);

  const OutputDirectory& directory_;
  RunFacts facts_;
  int64_t processes_;  // of this call, or of an earlier one that had more
  Recorder recorder_;
  std::vector<Site> sites_;
  std::optional<Task> task_;               // nullopt in the matrix problem
  std::vector<double> test_units_;         // by client
  std::vector<double> majority_accuracy_;  // by client
  std::vector<double> target_norms_;       // by client
  std::vector<int64_t> target_ranks_;      // by client
  std::vector<ClientScores> scores_;       // of the last evaluation, by client
  std::vector<ClientSpectra> spectra_;     // of the last measurement, by client
  RoundReport means_;                      // of the last evaluation
  int64_t evaluated_round_ = 0;
  int64_t last_round_ = 0;
  std::vector<double> phase_seconds_;  // of this call, mean over processes
};

}  // namespace pf2lora
