// What a run tells about itself: its plan, every round, and how it ended. Plain data without torch, filled by
// the round loop and read by whatever displays it. Accuracies are shares from 0 to 1, losses nats, times
// seconds; NaN or an empty vector stands for what was not measured.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/partition_figures.h"

namespace pf2lora {

struct MemoryItem {
  std::string what;
  int64_t bytes = 0;
};

// Seconds of the same work on examples that are new, and once their frozen states are kept.
struct ForecastSeconds {
  double first = 0;
  double later = 0;
};

// What the rounds to come take on the ranks at hand, in seconds, from steps that were made for it.
struct RunForecast {
  int64_t step_clients = 0;  // of the groups whose steps were timed, the largest
  int64_t peak_bytes = 0;    // most memory of a rank up to the end of these steps
  ForecastSeconds step;      // a local step of a group, on the slowest rank
  ForecastSeconds train;     // the local steps of a round, on the rank that needs longest
  ForecastSeconds evaluate;  // one evaluation of all clients, on the rank that needs longest
  double answers = 0;        // texts or spans of all clients' test examples, on that rank
  double all_reduce = 0;     // of a round
  int64_t evaluations = 0;   // in the rounds to come
  int64_t answer_rounds = 0;
  double rounds = 0;  // all that are to come
  struct OnRanks {
    int64_t ranks = 0;
    double train = 0;   // the local steps of a later round
    double busy = 0;    // share of it that a rank computes on average
    double rounds = 0;  // all that are to come; the all-reduce as on the ranks at hand
  };
  std::vector<OnRanks> by_ranks;  // on other numbers of ranks, at most as many as there are groups
};

// Known before the first round; rounds count from 1.
struct RunPlan {
  std::string algorithm, problem, partition, output;
  int64_t rounds = 0;
  int64_t first_round = 1;  // above 1 in a resumed run
  int64_t clients = 0;      // held-out ones included
  int64_t held_out_clients = 0;
  int64_t clients_per_round = 0;  // the size of a cohort
  int64_t lockstep = 0;
  int64_t ranks = 0;
  int64_t threads = 0;                  // of a rank
  int64_t local_ranks = 0;              // of the machine of rank 0
  int64_t local_cores = 0;              // that those may run on
  std::string backend;                  // of the model: "native avx512 fp32"
  std::vector<int64_t> groups_by_rank;  // of the first round
  std::vector<double> work_by_rank;     // estimated, in one unit for all ranks
  int64_t frozen_parameters = 0;        // of the model
  int64_t common_parameters = 0;        // trained and shared
  int64_t client_parameters = 0;        // of each client's own
  int64_t bytes_up = 0;                 // of a client in a round
  int64_t bytes_down = 0;               // of a client in a round
  int64_t bytes_all_reduce = 0;         // of a rank's buffer in a round
  std::vector<MemoryItem> memory;       // of the rank that needs most
  std::vector<int64_t> train_examples, validation_examples, test_examples;  // by client
  PartitionFigures figures;                                                 // empty in the matrix problem
  std::vector<std::string> client_names;  // by client, where the data name them
  bool classified = true;                 // classes are what is learned, and not only what partitions go by
  std::optional<RunForecast> forecast;    // of a dry run
};

// How far one rank's share of a round is.
struct GroupProgress {
  int64_t round = 0;
  int64_t done = 0;
  int64_t total = 0;
};

struct RoundReport {
  int64_t round = 0;
  double train_loss = std::numeric_limits<double>::quiet_NaN();  // mean over the cohort
  bool evaluated = false;
  // Means over the clients that train of the last evaluation, which need not be this round's.
  std::optional<double> common_accuracy, personal_accuracy, adapted_accuracy;
  std::optional<double> common_loss, personal_loss;
  // The same over the held-out clients, after as many adaptation steps as are evaluated.
  std::optional<double> held_out_accuracy, held_out_loss;
  double seconds = 0;       // of this round
  double seconds_left = 0;  // estimated, for the rest of the run; NaN when not known yet
  int64_t bytes_up = 0;     // of the cohort together
  int64_t bytes_down = 0;
};

struct AdaptedScores {
  int64_t steps = 0;
  std::vector<double> accuracy;   // by client
  std::vector<double> loss = {};  // by client: mean of a unit
};

// Effective ranks of one part at the sites of one target: of every layer, and of every client that trains
// unless common.
struct RankScores {
  std::string target;  // query, value, ...
  std::string part;    // common, client or total
  std::vector<double> numerical_rank_1e2, numerical_rank_1e3, stable_rank;
};

// How well the matrix problem's target of a client was found.
struct MatrixScores {
  int64_t client = 0;
  double relative_error = std::numeric_limits<double>::quiet_NaN();  // of the client's matrix
  double common_error = std::numeric_limits<double>::quiet_NaN();    // of the common part alone
  double numerical_rank_1e2 = std::numeric_limits<double>::quiet_NaN();
  double numerical_rank_1e3 = std::numeric_limits<double>::quiet_NaN();
  int64_t target_rank = 0;
  bool held_out = false;
};

struct PhaseSeconds {
  std::string phase;
  double seconds = 0;  // mean over the ranks
};

struct RunFile {
  std::string what, path;
};

struct RunSummary {
  std::string algorithm;
  int64_t rounds = 0;       // of the whole run
  int64_t rounds_done = 0;  // fewer when it was stopped and can be resumed
  int64_t evaluated_round = 0;
  int64_t local_steps = 0;                // of a client in a round
  double seconds = 0;                     // of this call
  int64_t peak_bytes = 0;                 // most memory of a rank in this call; 0: not known
  int64_t held_out_clients = 0;           // the last ones of what is by client
  std::string right = "accuracy";         // what shares of right answers are called
  std::string unit = "an example";        // of which each is right or wrong, and has a loss
  std::vector<double> majority_accuracy;  // by client: of always answering its most frequent training class
  std::vector<double> common_accuracy;    // by client
  std::vector<double> personal_accuracy;  // by client
  std::vector<double> common_loss;        // by client: mean of a unit; f_k in the matrix problem
  std::vector<double> personal_loss;      // by client
  std::vector<AdaptedScores> adapted;     // by increasing steps
  std::vector<RankScores> ranks;
  std::vector<MatrixScores> matrix;
  std::vector<PhaseSeconds> phases;
  std::vector<RunFile> files;
};

// Of values by client: those of the clients that train, and those of the held-out ones, which come last.
inline std::span<const double> of_training(std::span<const double> by_client, int64_t held_out) {
  return by_client.first(by_client.size() - std::min(by_client.size(), size_t(held_out)));
}
inline std::span<const double> of_held_out(std::span<const double> by_client, int64_t held_out) {
  return by_client.last(std::min(by_client.size(), size_t(held_out)));
}

// "rounds 1 to 12": those that are to come.
inline std::string describe_rounds(const RunPlan& plan) {
  const std::string last = std::to_string(plan.rounds);
  if (plan.first_round <= plan.rounds) return "rounds " + std::to_string(plan.first_round) + " to " + last;
  return plan.rounds == 0 ? "no rounds" : "all " + last + " rounds done";
}

// Is told how a run goes, on one rank. Every call returns at once; none may change the run.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void begin(const RunPlan&) {}
  virtual void note(std::string_view /*message: one line that the user should read*/) {}
  virtual void group_done(const GroupProgress&) {}
  virtual void end_round(const RoundReport&) {}
  virtual void end(const RunSummary&) {}
};

}  // namespace pf2lora
