#include "app/summary.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "core/statistics.h"
#include "core/text.h"

namespace pf2lora {
namespace {

using Row = std::vector<std::string>;

bool any_measured(std::span<const double> values) {
  return std::ranges::any_of(values, [](double value) { return !std::isnan(value); });
}

// Mean, deviation, deciles and range of shares, in per cent.
Row accuracy_row(const std::string& title, std::span<const double> shares) {
  const Spread s = spread(shares);
  Row row = {title};
  for (const double value :
       {s.mean, s.standard_deviation, s.worst_decile, s.best_decile, s.minimum, s.maximum}) {
    row.push_back(format_fixed(100 * value, 1));
  }
  return row;
}

std::vector<double> differences(std::span<const double> a, std::span<const double> b) {
  std::vector<double> result;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) result.push_back(a[i] - b[i]);
  return result;
}

// How many clients do worse with the personal model, and their share of those that have both scores.
void print_harmed(std::ostream& out, std::span<const double> personal, std::span<const double> common) {
  const int64_t compared = spread(differences(personal, common)).count;
  if (compared == 0 || personal.size() != common.size()) return;
  out << "  personal below common: " << count_below(personal, common) << " of " << compared << " clients\n";
}

std::string scored_clients(const RunSummary& summary) {
  return summary.held_out_clients > 0 ? "clients that train" : "clients";
}

using ByClient = std::vector<double>;

// Whether what a client deploys is the common model, as in methods without a part of the clients' own.
bool one_model(const RunSummary& summary) {
  const auto alike = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
  return (any_measured(summary.common_loss) || any_measured(summary.common_accuracy)) &&
         std::ranges::equal(summary.common_loss, summary.personal_loss, alike) &&
         std::ranges::equal(summary.common_accuracy, summary.personal_accuracy, alike);
}

// Calls add(title, values of the part's clients) for every model: common, personal, and after local steps.
void for_each_model(const RunSummary& summary, ByClient RunSummary::*common, ByClient RunSummary::*personal,
                    ByClient AdaptedScores::*adapted, const std::string& prefix, const auto& part,
                    const auto& add) {
  const int64_t held_out = summary.held_out_clients;
  if (one_model(summary)) {
    add(prefix + "common = personal", part(summary.*common, held_out));
  } else {
    add(prefix + "common", part(summary.*common, held_out));
    add(prefix + "personal", part(summary.*personal, held_out));
  }
  for (const AdaptedScores& scores : summary.adapted)
    add(prefix + "adapted by " + std::to_string(scores.steps) + " local steps",
        part(scores.*adapted, held_out));
}

void print_accuracy(std::ostream& out, const RunSummary& summary) {
  const int64_t held_out = summary.held_out_clients;
  std::vector<Row> rows = {{summary.right + " over " + scored_clients(summary) + ", %", "mean", "std",
                            "worst 10%", "best 10%", "min", "max"}};
  const auto add = [&](const std::string& title, std::span<const double> shares) {
    if (any_measured(shares)) rows.push_back(accuracy_row(title, shares));
  };
  const auto add_scores = [&](const std::string& prefix, const auto& part) {
    for_each_model(summary, &RunSummary::common_accuracy, &RunSummary::personal_accuracy,
                   &AdaptedScores::accuracy, prefix, part, add);
  };
  add("majority class", of_training(summary.majority_accuracy, held_out));
  const std::size_t unscored = rows.size();
  add_scores("", of_training);
  if (rows.size() == unscored) return;
  const auto personal = of_training(summary.personal_accuracy, held_out),
             common = of_training(summary.common_accuracy, held_out);
  if (!one_model(summary)) add("gain of personal over common", differences(personal, common));
  add("held out: majority class", of_held_out(summary.majority_accuracy, held_out));
  add_scores("held out: ", of_held_out);
  out << "\nEvaluation after round " << summary.evaluated_round << '\n' << align_columns(rows);
  if (!one_model(summary)) print_harmed(out, personal, common);
  if (summary.adapted.empty())
    out << "  not evaluated after local adaptation (--adaptation-steps " << summary.local_steps
        << " would)\n";
}

// The mean loss of a unit, of text; the matrix problem has a table of its own.
void print_loss(std::ostream& out, const RunSummary& summary) {
  if (!summary.matrix.empty()) return;
  std::vector<Row> rows = {
      {"loss of " + summary.unit + ", over " + scored_clients(summary), "mean", "std", "min", "max"}};
  const auto add = [&](const std::string& title, std::span<const double> losses) {
    if (!any_measured(losses)) return;
    const Spread s = spread(losses);
    rows.push_back({title, format_fixed(s.mean, 3), format_fixed(s.standard_deviation, 3),
                    format_fixed(s.minimum, 3), format_fixed(s.maximum, 3)});
  };
  const auto add_scores = [&](const std::string& prefix, const auto& part) {
    for_each_model(summary, &RunSummary::common_loss, &RunSummary::personal_loss, &AdaptedScores::loss,
                   prefix, part, add);
  };
  add_scores("", of_training);
  add_scores("held out: ", of_held_out);
  if (rows.size() > 1) out << "\nLoss after round " << summary.evaluated_round << '\n' << align_columns(rows);
}

// "8.0 (7 to 9)": mean and range.
std::string mean_and_range(std::span<const double> values, int decimals) {
  const Spread s = spread(values);
  if (s.count == 0) return "-";
  return format_fixed(s.mean, std::max(decimals, 1)) + " (" + format_fixed(s.minimum, decimals) + " to " +
         format_fixed(s.maximum, decimals) + ")";
}

void print_ranks(std::ostream& out, const RunSummary& summary) {
  std::vector<Row> rows = {{"target", "part", "rank at 1e-2", "rank at 1e-3", "stable rank"}};
  for (const RankScores& scores : summary.ranks) {
    if (!any_measured(scores.numerical_rank_1e2) && !any_measured(scores.stable_rank)) continue;
    rows.push_back({scores.target, scores.part, mean_and_range(scores.numerical_rank_1e2, 0),
                    mean_and_range(scores.numerical_rank_1e3, 0), mean_and_range(scores.stable_rank, 1)});
  }
  if (rows.size() == 1) return;
  out << "\nLearned ranks, mean (range) over layers, of client and total also over clients"
      << (summary.held_out_clients > 0 ? " that train\n" : "\n") << align_columns(rows, 2);
}

void print_matrix(std::ostream& out, const std::vector<MatrixScores>& matrix) {
  if (matrix.empty()) return;
  std::vector<Row> rows = {
      {"client", "relative error", "of the common part", "rank at 1e-2", "rank at 1e-3", "target's rank"}};
  const std::size_t shown = std::min<std::size_t>(matrix.size(), 20);
  for (const MatrixScores& scores : std::span(matrix).first(shown)) {
    rows.push_back({std::to_string(scores.client) + (scores.held_out ? ", held out" : ""),
                    format_significant(scores.relative_error, 3), format_significant(scores.common_error, 3),
                    format_fixed(scores.numerical_rank_1e2, 0), format_fixed(scores.numerical_rank_1e3, 0),
                    std::to_string(scores.target_rank)});
  }
  out << "\nTargets found\n" << align_columns(rows);
  if (shown < matrix.size())
    out << "  and " << format_count(static_cast<int64_t>(matrix.size() - shown)) << " more\n";
}

void print_phases(std::ostream& out, const std::vector<PhaseSeconds>& phases) {
  double total = 0;
  for (const PhaseSeconds& phase : phases) total += phase.seconds;
  if (!(total > 0)) return;
  std::vector<Row> rows = {{"phase", "share", "time"}};
  for (const PhaseSeconds& phase : phases) {
    if (phase.seconds <= 0) continue;
    rows.push_back({phase.phase, format_percent(phase.seconds / total), format_duration(phase.seconds)});
  }
  out << "\nTime by phase, mean over ranks\n" << align_columns(rows);
}

// A column of the table of clients; 0 decimals are those of a count.
struct PartitionColumn {
  std::string title;
  int decimals;
  double (*value)(const ClientFigures& client);

  std::string cell(double number) const {
    if (decimals > 0) return format_fixed(number, decimals);
    const bool whole = number == std::floor(number);  // a median need not be
    return whole ? format_count(static_cast<int64_t>(number)) : format_fixed(number, 1);
  }
};

std::vector<PartitionColumn> example_columns(bool validates) {
  std::vector<PartitionColumn> columns = {
      {"train", 0, [](const ClientFigures& client) { return static_cast<double>(client.train); }},
      {"test", 0, [](const ClientFigures& client) { return static_cast<double>(client.test); }}};
  if (validates)
    columns.insert(columns.begin() + 1, {"validation", 0, [](const ClientFigures& client) {
                                           return static_cast<double>(client.validation);
                                         }});
  return columns;
}

// Of the classes, or of the groups that partitions go by where nothing is classified.
std::vector<PartitionColumn> label_columns(bool classified) {
  return {{classified ? "classes" : "groups", 0,
           [](const ClientFigures& client) { return static_cast<double>(client.classes); }},
          {classified ? "label entropy, nats" : "group entropy, nats", 2,
           [](const ClientFigures& client) { return client.label_entropy; }},
          {classified ? "majority class, %" : "largest group, %", 1,
           [](const ClientFigures& client) { return 100 * client.majority; }}};
}

std::string client_title(const RunPlan& plan, std::size_t client) {
  constexpr std::size_t kMost = 24;  // bytes of a name, which are UTF-8
  const std::string title = std::to_string(client);
  if (client >= plan.client_names.size()) return title;
  const std::string& name = plan.client_names[client];
  if (name.size() <= kMost) return title + " " + name;
  std::size_t cut = kMost;
  while (cut > 0 && (static_cast<unsigned char>(name[cut]) & 0xC0) == 0x80) --cut;
  return title + " " + name.substr(0, cut) + "...";
}

double median(const std::vector<double>& sorted) {
  return (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
}

// Who holds what: by client, of the first 20, and the range over all.
void print_partition(std::ostream& out, const RunPlan& plan) {
  const std::vector<ClientFigures>& clients = plan.figures.clients;
  if (clients.empty()) return;
  const bool validates =
      std::ranges::any_of(clients, [](const auto& client) { return client.validation > 0; });
  const bool permutes = std::ranges::any_of(clients, &ClientFigures::permuted);
  const bool grouped = std::ranges::any_of(clients, [](const auto& client) { return client.classes > 1; }) ||
                       plan.figures.mean_label_distance > 0;
  std::vector<PartitionColumn> columns = example_columns(validates);
  if (plan.classified || grouped)
    std::ranges::copy(label_columns(plan.classified), std::back_inserter(columns));
  const std::size_t shown = std::min<std::size_t>(clients.size(), 20);
  std::vector<Row> rows = {{"client"}};
  for (std::size_t k = 0; k < shown; ++k) rows.push_back({client_title(plan, k)});
  if (shown < clients.size()) rows.push_back({"..."});
  const std::size_t range = rows.size();
  for (const char* title : {"min", "median", "max"}) rows.push_back({title});
  for (const PartitionColumn& column : columns) {
    std::vector<double> values;
    for (const ClientFigures& client : clients) values.push_back(column.value(client));
    rows[0].push_back(column.title);
    for (std::size_t k = 0; k < shown; ++k) rows[k + 1].push_back(column.cell(values[k]));
    std::ranges::sort(values);
    rows[range].push_back(column.cell(values.front()));
    rows[range + 1].push_back(column.cell(median(values)));
    rows[range + 2].push_back(column.cell(values.back()));
  }
  if (permutes) {
    rows[0].push_back("labels");
    for (std::size_t k = 0; k < shown; ++k) rows[k + 1].push_back(clients[k].permuted ? "permuted" : "");
  }
  out << "\nPartition" << (plan.partition.empty() ? "" : " " + plan.partition)
      << (plan.classified ? ", examples and training labels of a client\n" : ", examples of a client\n")
      << align_columns(rows);
  if (plan.classified || grouped)
    out << "  Jensen-Shannon distance of a client's " << (plan.classified ? "labels" : "groups")
        << " from those of all: mean " << format_fixed(plan.figures.mean_label_distance, 3)
        << " (0: alike, 1: nothing in common)\n";
}

void print_placement(std::ostream& out, const RunPlan& plan) {
  const int64_t groups = std::accumulate(plan.groups_by_rank.begin(), plan.groups_by_rank.end(), int64_t{0});
  out << "\nPlacement of round " << plan.first_round << ": " << format_count(groups) << " groups of up to "
      << plan.lockstep << " clients on " << plan.ranks << (plan.ranks == 1 ? " rank, " : " ranks, ")
      << plan.threads << (plan.threads == 1 ? " thread each\n" : " threads each\n");
  double total_work = 0;
  for (const double work : plan.work_by_rank) total_work += work;
  std::vector<Row> rows = {{"rank", "groups"}};
  if (total_work > 0) rows[0].push_back("share of work");
  const std::size_t shown = std::min<std::size_t>(plan.groups_by_rank.size(), 32);
  for (std::size_t rank = 0; rank < shown; ++rank) {
    rows.push_back({std::to_string(rank), format_count(plan.groups_by_rank[rank])});
    if (total_work > 0 && rank < plan.work_by_rank.size()) {
      rows.back().push_back(format_percent(plan.work_by_rank[rank] / total_work));
    }
  }
  out << align_columns(rows);
  if (shown < plan.groups_by_rank.size())
    out << "  and " << plan.groups_by_rank.size() - shown << " more ranks\n";
}

void print_sizes(std::ostream& out, const RunPlan& plan) {
  out << "\nParameters\n"
      << align_columns({{"frozen", format_count(plan.frozen_parameters)},
                        {"common, trained", format_count(plan.common_parameters)},
                        {"of each client, trained", format_count(plan.client_parameters)}});
  out << "\nTraffic of a round\n"
      << align_columns({{"up, each client", format_bytes(plan.bytes_up)},
                        {"down, each client", format_bytes(plan.bytes_down)},
                        {"all-reduce, each rank", format_bytes(plan.bytes_all_reduce)}});
  if (plan.memory.empty()) return;
  int64_t total = 0;
  std::vector<Row> rows;
  for (const MemoryItem& item : plan.memory) {
    rows.push_back({item.what, format_bytes(item.bytes)});
    total += item.bytes;
  }
  rows.push_back({"together", format_bytes(total)});
  out << "\nMemory of the rank that needs most\n" << align_columns(rows);
  if (plan.forecast)
    out << "  A rank had " << format_bytes(plan.forecast->peak_bytes)
        << " at most in the steps made now, with the activations of its batches.\n";
  else
    out << "  The activations of a batch come on top.\n";
}

void print_forecast(std::ostream& out, const RunPlan& plan) {
  if (!plan.forecast) return;
  const RunForecast& forecast = *plan.forecast;
  const auto row = [](const std::string& name, const ForecastSeconds& seconds) {
    return Row{name, format_duration(seconds.first), format_duration(seconds.later)};
  };
  std::vector<Row> once = {{"all-reduce of a round", format_duration(forecast.all_reduce)}};
  if (forecast.answer_rounds > 0)
    once.push_back({"answers of all clients, in " + format_count(forecast.answer_rounds) +
                        (forecast.answer_rounds == 1 ? " round" : " rounds"),
                    format_duration(forecast.answers)});
  once.push_back({describe_rounds(plan) + ", with " + format_count(forecast.evaluations) +
                      (forecast.evaluations == 1 ? " evaluation" : " evaluations"),
                  format_duration(forecast.rounds)});
  out << "\nTime, from steps made now on " << (plan.ranks == 1 ? "this rank" : "these ranks") << '\n'
      << align_columns({{"", "new examples", "seen before"},
                        row("one local step of " + format_count(forecast.step_clients) +
                                (forecast.step_clients == 1 ? " client" : " clients") +
                                (plan.ranks == 1 ? "" : ", on the slowest rank"),
                            forecast.step),
                        row("local steps of a round", forecast.train),
                        row("one evaluation of all clients", forecast.evaluate)})
      << align_columns(once);
  std::vector<Row> rows = {{"on ranks", "local steps of a round", describe_rounds(plan), "ranks busy"}};
  for (const RunForecast::OnRanks& on : forecast.by_ranks)
    rows.push_back({format_count(on.ranks), format_duration(on.train), format_duration(on.rounds),
                    format_percent(on.busy)});
  out << '\n'
      << align_columns(rows)
      << "  More ranks than groups of clients in a round have nothing to do; a smaller "
      << "--lockstep makes more groups.\n";
}

}  // namespace

void print_plan(std::ostream& out, const RunPlan& plan) {
  out << plan.algorithm << " on the " << plan.problem << " problem: " << describe_rounds(plan) << ", "
      << format_count(plan.clients) << " clients";
  if (plan.held_out_clients > 0) out << " (" << format_count(plan.held_out_clients) << " held out)";
  out << ", " << format_count(plan.clients_per_round) << " a round\n";
  print_placement(out, plan);
  print_sizes(out, plan);
  print_forecast(out, plan);
  print_partition(out, plan);
  if (!plan.output.empty()) out << "\nFiles would go to " << plan.output << '\n';
}

void print_summary(std::ostream& out, const RunSummary& summary) {
  out << '\n' << summary.algorithm << ": ";
  if (summary.rounds_done < summary.rounds) {
    out << "stopped after " << summary.rounds_done << " of " << summary.rounds << " rounds; --resume goes on";
  } else {
    out << summary.rounds << (summary.rounds == 1 ? " round done" : " rounds done");
  }
  out << ", " << format_duration(summary.seconds);
  if (summary.peak_bytes > 0) out << ", at most " << format_bytes(summary.peak_bytes) << " of memory a rank";
  out << '\n';
  print_accuracy(out, summary);
  print_loss(out, summary);
  print_matrix(out, summary.matrix);
  print_ranks(out, summary);
  print_phases(out, summary.phases);
  if (summary.files.empty()) return;
  std::vector<Row> rows;
  for (const RunFile& file : summary.files) rows.push_back({file.what, file.path});
  out << "\nFiles\n" << align_columns(rows, 2);
}

}  // namespace pf2lora
