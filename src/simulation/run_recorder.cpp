#include "simulation/run_recorder.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "core/statistics.h"
#include "data/apportion.h"
#include "io/atomic_file.h"
#include "simulation/phases.h"
#include "simulation/results_schema.h"

namespace pf2lora {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

ResultsShape results_shape(const RunFacts& facts, const Problem& problem, int64_t processes) {
  return {.clients = facts.options.clients,
          .processes = processes,
          .segments = int64_t(facts.history.size()),
          .task = problem.task(),
          .classes = problem.class_names(),
          .named_clients = !problem.partition().client_names.empty(),
          .permuted_labels = !problem.partition().label_maps.empty(),
          .train_rows = sum(facts.plan.train_examples),
          .validation_rows = sum(facts.plan.validation_examples),
          .test_rows = sum(facts.plan.test_examples),
          .scores = facts.scores,
          .spectra = facts.spectra,
          .answers = facts.answers};
}

// Of the first start, but for what was read, which is the same at every start.
std::vector<Attribute> root_attributes(const RunFacts& facts) {
  std::vector<Attribute> attributes = facts.history.front().start;
  for (const auto& [name, value] : facts.inputs) attributes.push_back({name, value});
  attributes.push_back({"algorithm", facts.options.algorithm});
  return attributes;
}

std::vector<Attribute> option_attributes(RunFacts& facts) {
  std::vector<Attribute> attributes;
  const auto add = [&](OptionSet& set) {
    for (OptionValue& option : list_values(set))
      attributes.push_back(
          {option.name, std::visit([](auto& value) { return AttributeValue(value); }, option.value)});
  };
  add(facts.options);
  if (facts.method_options != nullptr) add(*facts.method_options);
  return attributes;
}

// What each client's part costs with the rank that it starts with, in the round in which most parameters
// move.
std::vector<ClientCost> start_costs(const Options& options, const Problem& problem,
                                    const Algorithm& algorithm) {
  const torch::TensorOptions type = problem.model().options();
  const ClientStore start(algorithm, type);
  const torch::Tensor common = torch::zeros({algorithm.common_layout().size()}, type);
  const ClientGroup first = start.group({0}, common);
  int64_t most = 0, busiest = 1;
  for (int64_t round = 1; round <= options.rounds; ++round) {
    const int64_t trained = algorithm.cost(first, 0, round).trained;
    if (trained > most) most = trained, busiest = round;
  }
  std::vector<ClientCost> costs;
  for (int64_t client = 0; client < options.clients; ++client)
    costs.push_back(algorithm.cost(start.group({client}, common), 0, busiest));
  return costs;
}

// Sorts unpacked records by client.
template <class Record>
void sort_by_client(std::vector<Record>& records) {
  std::sort(records.begin(), records.end(),
            [](const Record& a, const Record& b) { return a.client < b.client; });
}

}  // namespace

RunRecorder::RunRecorder(const OutputDirectory& directory, RunFacts facts, const Problem& problem,
                         const Algorithm& algorithm, std::optional<int64_t> resumed_round)
    : directory_(directory),
      facts_(std::move(facts)),
      processes_(std::max(facts_.plan.ranks,
                          resumed_round ? recorded_width(directory.path(), "round", "phase_seconds") : 0)),
      recorder_(directory.path(), results_schema(results_shape(facts_, problem, processes_)),
                root_attributes(facts_), option_attributes(facts_)),
      sites_(facts_.spectra.sites),
      task_(problem.task()),
      last_round_(resumed_round.value_or(0)),
      phase_seconds_(kPhaseNames.size()) {
  put_static(problem, algorithm);
  if (resumed_round) recorder_.resume(*resumed_round);
  write_text_atomically(directory_.options(), facts_.config);
}

void RunRecorder::put_static(const Problem& problem, const Algorithm& algorithm) {
  const auto clients = size_t(facts_.options.clients);
  std::vector<int64_t> trained, stored;
  for (const ClientCost& cost : start_costs(facts_.options, problem, algorithm)) {
    trained.push_back(cost.trained);
    stored.push_back(cost.kept);
  }
  recorder_.put("parameters_trained", std::span(trained));
  recorder_.put("parameters_stored", std::span(stored));

  std::vector<std::string> names, targets;
  std::vector<int64_t> rows, columns;
  for (const Site& site : sites_) {
    names.push_back(site.name);
    targets.push_back(site.target);
    rows.push_back(site.rows);
    columns.push_back(site.columns);
  }
  recorder_.put("site_name", std::span<const std::string>(names));
  recorder_.put("site_target", std::span<const std::string>(targets));
  recorder_.put("site_rows", std::span<const int64_t>(rows));
  recorder_.put("site_columns", std::span<const int64_t>(columns));
  for (size_t k = 0; k < clients; ++k) {
    target_norms_.push_back(problem.target_norm(int64_t(k)));
    target_ranks_.push_back(problem.target_rank(int64_t(k)));
  }
  if (!task_) return;

  recorder_.put("class_name", std::span<const std::string>(problem.class_names()));
  const auto put_split = [&](const std::string& split, std::vector<int64_t> ClientExamples::*member) {
    std::vector<int64_t> counts, units, index, offsets = {0};
    for (const ClientExamples& client : problem.partition().clients) {
      const std::vector<int64_t>& examples = client.*member;
      counts.push_back(int64_t(examples.size()));
      units.push_back(problem.units(examples));
      index.insert(index.end(), examples.begin(), examples.end());
      offsets.push_back(int64_t(index.size()));
    }
    recorder_.put(split + "_examples", std::span<const int64_t>(counts));
    if (task_ == Task::generation) recorder_.put(split + "_tokens", std::span<const int64_t>(units));
    recorder_.put(split + "_index", std::span<const int64_t>(index));
    recorder_.put(split + "_offsets", std::span<const int64_t>(offsets));
  };
  put_split("train", &ClientExamples::train);
  put_split("validation", &ClientExamples::validation);
  put_split("test", &ClientExamples::test);

  std::vector<int64_t> train_counts, test_counts;
  for (const ClientExamples& client : problem.partition().clients) {
    const auto train = problem.class_counts(client.train), test = problem.class_counts(client.test);
    train_counts.insert(train_counts.end(), train.begin(), train.end());
    test_counts.insert(test_counts.end(), test.begin(), test.end());
    test_units_.push_back(double(problem.units(client.test)));
    if (task_ == Task::classification) majority_accuracy_.push_back(majority_class_accuracy(train, test));
  }
  recorder_.put("train_class_counts", std::span<const int64_t>(train_counts));
  recorder_.put("test_class_counts", std::span<const int64_t>(test_counts));

  if (facts_.answers.task) {
    std::vector<int64_t> items, offsets = {0};
    for (const auto& of_client : facts_.answers.items) {
      items.insert(items.end(), of_client.begin(), of_client.end());
      offsets.push_back(int64_t(items.size()));
    }
    recorder_.put("question_item", std::span<const int64_t>(items));
    recorder_.put("question_offsets", std::span<const int64_t>(offsets));
  }
  const Partition& partition = problem.partition();
  std::vector<int64_t> label_map;  // [client, class]
  for (const auto& own : partition.label_maps) label_map.insert(label_map.end(), own.begin(), own.end());
  if (!label_map.empty()) recorder_.put("label_map", std::span<const int64_t>(label_map));
  if (!partition.client_names.empty())
    recorder_.put("client_name", std::span<const std::string>(partition.client_names));
}

void RunRecorder::evaluation(int64_t round, const std::vector<std::vector<double>>& records) {
  scores_.clear();
  for (const auto& record : records) scores_.push_back(ClientScores::unpack(record, facts_.scores));
  sort_by_client(scores_);
  evaluated_round_ = round;
  means_ = mean_scores();

  std::map<std::string, std::vector<double>> columns;
  const auto add = [&](const std::string& name, const Score& score) {
    columns[name + "_loss"].push_back(score.loss);
    if (facts_.scores.correlations) {
      columns[name + "_pearson"].push_back(score.pearson);
      columns[name + "_spearman"].push_back(score.spearman);
    }
    if (!facts_.scores.right_answers) return;
    columns[name + "_correct"].push_back(score.correct);
    if (facts_.scores.confusion_classes == 0) return;
    auto& matrix = columns[name + "_confusion"];
    matrix.insert(matrix.end(), score.confusion.begin(), score.confusion.end());
  };
  const auto add_split = [&](const std::string& prefix, SplitScores ClientScores::*split) {
    for (const ClientScores& scores : scores_) {
      add(prefix + "common", (scores.*split).common);
      add(prefix + "personal", (scores.*split).personal);
    }
    for (size_t step = 0; step < facts_.scores.adaptation_steps.size(); ++step)
      for (const ClientScores& scores : scores_) add(prefix + "adapted", (scores.*split).adapted[step]);
  };
  add_split("", &ClientScores::test);
  if (facts_.scores.validation) add_split("validation_", &ClientScores::validation);
  if (!task_)
    for (const ClientScores& scores : scores_)
      columns["relative_error"].push_back(std::sqrt(2 * scores.test.personal.loss) /
                                          target_norms_[size_t(scores.client)]);
  std::vector<RecordValue> values;
  for (const auto& [name, column] : columns) values.push_back({name, std::span<const double>(column)});
  recorder_.append("evaluation", round, values);
}

void RunRecorder::spectra(int64_t round, const std::vector<std::vector<double>>& records) {
  spectra_.clear();
  for (const auto& record : records) spectra_.push_back(ClientSpectra::unpack(record, facts_.spectra));
  sort_by_client(spectra_);
  const auto all = [&](std::vector<double> ClientSpectra::*member) {
    std::vector<double> column;
    for (const ClientSpectra& client : spectra_)
      column.insert(column.end(), (client.*member).begin(), (client.*member).end());
    return column;
  };
  const auto own = all(&ClientSpectra::own), total = all(&ClientSpectra::total),
             overlap = all(&ClientSpectra::overlap), ratio = all(&ClientSpectra::norm_ratio),
             cosine = all(&ClientSpectra::cosine);
  recorder_.append("spectrum", round,
                   {{"common_singular_values", std::span<const double>(spectra_.front().common)},
                    {"client_singular_values", std::span<const double>(own)},
                    {"total_singular_values", std::span<const double>(total)},
                    {"subspace_overlap", std::span<const double>(overlap)},
                    {"norm_ratio", std::span<const double>(ratio)},
                    {"cosine", std::span<const double>(cosine)}});
}

void RunRecorder::answers(int64_t round, const std::vector<std::vector<double>>& records) {
  std::vector<RecordValue> values;
  const auto columns = answer_columns(facts_.answers, records);
  for (const auto& [name, column] : columns) values.push_back({name, std::span<const double>(column)});
  recorder_.append("answer", round, values);
}

RoundReport RunRecorder::round(int64_t round, const std::vector<std::vector<double>>& trained,
                               const std::vector<std::vector<double>>& seconds) {
  const auto clients = size_t(facts_.options.clients);
  std::vector<double> loss(clients, kNan), part(clients, 0.0), gradients(clients, 0.0), up(clients, 0.0),
      down(clients, 0.0), rank(clients, 0.0);
  for (const auto& record : trained) {
    const auto client = size_t(record[0]);
    loss[client] = record[1];
    part[client] = 1;
    gradients[client] = record[2];
    up[client] = record[3];
    down[client] = record[4];
    rank[client] = record[5];
  }
  std::vector<double> by_phase;  // [phase, process]
  for (size_t phase = 0; phase < kPhaseNames.size(); ++phase) {
    for (const auto& process : seconds) by_phase.push_back(process[phase]);
    by_phase.resize((phase + 1) * size_t(processes_));
  }
  add_phases(seconds);
  recorder_.append("round", round,
                   {{"train_loss", std::span<const double>(loss)},
                    {"took_part", std::span<const double>(part)},
                    {"gradient_evaluations", std::span<const double>(gradients)},
                    {"bytes_up", std::span<const double>(up)},
                    {"bytes_down", std::span<const double>(down)},
                    {"client_rank", std::span<const double>(rank)},
                    {"phase_seconds", std::span<const double>(by_phase)}});
  last_round_ = round;

  RoundReport report = means_;
  report.round = round;
  report.train_loss = spread(loss).mean;
  report.evaluated = evaluated_round_ == round;
  report.bytes_up = int64_t(std::accumulate(up.begin(), up.end(), 0.0));
  report.bytes_down = int64_t(std::accumulate(down.begin(), down.end(), 0.0));
  return report;
}

void RunRecorder::add_phases(const std::vector<std::vector<double>>& seconds) {
  for (const auto& process : seconds)
    for (size_t phase = 0; phase < kPhaseNames.size(); ++phase)
      phase_seconds_[phase] += process[phase] / double(seconds.size());
}

RoundReport RunRecorder::mean_scores() const {
  RoundReport report;
  const int64_t held_out = facts_.options.held_out_clients;
  const auto mean = [](std::span<const double> values) -> std::optional<double> {
    const double value = spread(values).mean;
    return std::isnan(value) ? std::nullopt : std::optional(value);
  };
  const RunSummary now = scores();
  const auto& fitted = now.adapted.empty() ? now.personal_accuracy : now.adapted.back().accuracy;
  report.common_accuracy = mean(of_training(now.common_accuracy, held_out));
  report.personal_accuracy = mean(of_training(now.personal_accuracy, held_out));
  if (!now.adapted.empty()) report.adapted_accuracy = mean(of_training(fitted, held_out));
  report.held_out_accuracy = mean(of_held_out(fitted, held_out));
  report.common_loss = mean(of_training(now.common_loss, held_out));
  report.personal_loss = mean(of_training(now.personal_loss, held_out));
  report.held_out_loss =
      mean(of_held_out(now.adapted.empty() ? now.personal_loss : now.adapted.back().loss, held_out));
  return report;
}

void RunRecorder::join(const RunHistory& history) {
  put_history(recorder_, history);
  recorder_.join();
}

void RunRecorder::finish(const RunHistory& history) {
  if (!history.back().end_utc.empty()) recorder_.set_attribute("end_utc", history.back().end_utc);
  join(history);
  recorder_.remove_segments();
}

}  // namespace pf2lora
