#include "simulation/simulate.h"

#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <numeric>

#include "algorithm/registry.h"
#include "algorithm/row_optimizer.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/profile.h"
#include "core/stop_signal.h"
#include "core/text.h"
#include "data/sampler.h"
#include "io/output_directory.h"
#include "simulation/adapters_file.h"
#include "simulation/answers.h"
#include "simulation/evaluation.h"
#include "simulation/forecast.h"
#include "simulation/loss_watch.h"
#include "simulation/phases.h"
#include "simulation/plan.h"
#include "simulation/profile_file.h"
#include "simulation/resume_check.h"
#include "simulation/round_pace.h"
#include "simulation/run_history.h"
#include "simulation/run_recorder.h"
#include "simulation/run_state.h"
#include "simulation/schedule.h"
#include "simulation/spectra_table.h"

namespace pf2lora {
namespace {

constexpr const char* kHistory = "history";  // a text of checkpoints

// Brings every rank's records to rank 0; empty on the others.
std::vector<std::vector<double>> gather_records(const Communicator& comm,
                                                const std::vector<std::vector<double>>& records) {
  std::vector<double> flat;
  for (const auto& record : records) {
    flat.push_back(double(record.size()));
    flat.insert(flat.end(), record.begin(), record.end());
  }
  std::vector<std::vector<double>> all;
  for (const auto& numbers : comm.gather(flat))
    for (auto next = numbers.begin(); next != numbers.end();) {
      const auto size = ptrdiff_t(*next++);
      all.emplace_back(next, next + size);
      next += size;
    }
  return all;
}

class Simulation {
 public:
  Simulation(RunRequest& request, const Communicator& comm, Observer& observer)
      : request_(request), options_(request.options), comm_(comm), observer_(observer), schedule_(options_) {}

  RunOutcome run() {
    prepare();
    if (was_complete_) return {.was_complete = true};
    if (options_.dry_run) return {};
    TimeLimit clock(options_.max_hours);
    if (!options_.profile.empty()) profile().start(profile_spans(comm_.size()));
    phases_.start();
    if (options_.rounds == 0 && !options_.resume) {  // the models as they start
      record_models(0);
      save("done");
    }
    Stopwatch since_save;
    for (int64_t round = state_->round + 1; round <= options_.rounds; ++round) {
      const Stopwatch round_watch;
      std::vector<Group> groups = make_groups(draw_round_cohort(round), options_.lockstep, work_);
      exchange(comm_, *state_, state_->placement.place(groups, Placement::Use::trains),
               algorithm_->client_layout().size());
      phases_.passed(Phase::move);

      ExactSum sum(size_t(algorithm_->sum_size(round)));
      comm_.together([&] { train(groups, round, sum); });
      phases_.passed(Phase::train);
      comm_.all_reduce(sum);
      comm_.together([&] { algorithm_->aggregate(state_->common, round, sum); });
      state_->round = round;
      phases_.passed(Phase::all_reduce);

      record_models(round);
      record_round(round, round_watch);

      clock.round_took(round_watch.seconds());
      const bool last = round == options_.rounds;
      const bool stop =
          comm_.agree(!last && (stop_requested() || clock.next_round_would_pass(since_start_.seconds())));
      const std::string ending = last ? "done" : stop ? reason_to_stop(clock) : "";
      if (comm_.agree(!ending.empty() || schedule_.saves(round, since_save.seconds()))) {
        since_save.restart();
        save(ending);
        clock.saving_took(since_save.seconds());
      }
      phases_.passed(Phase::write);
      if (stop) {
        end_run(/*done=*/false);
        return {ExitCode::checkpointed, ending};
      }
    }
    end_run(/*done=*/true);
    return {};
  }

 private:
  // ---- before the first round: reads and checks everything, then makes the output directory -------------
  void prepare();
  void forecast(const std::vector<Group>& groups, RunPlan& plan);
  std::vector<int64_t> draw_round_cohort(int64_t round) const;

  // ---- a round ------------------------------------------------------------------------------------------
  void train(const std::vector<Group>& groups, int64_t round, ExactSum& sum);
  void record_models(int64_t round);
  void evaluate_clients(int64_t round);
  void record_answers(int64_t round);
  using Records = std::vector<std::vector<double>>;
  // What `of_group` says of the groups of all clients, brought to rank 0; empty on the others.
  Records ask_all_clients(const std::function<Records(const ClientGroup&)>& of_group);
  void measure_spectra(int64_t round);
  void record_round(int64_t round, const Stopwatch& watch);
  // `ending`: what ends this call after this round, or "".
  void save(const std::string& ending);

  // ---- the end ------------------------------------------------------------------------------------------
  std::string reason_to_stop(const TimeLimit& clock) const;
  void end_run(bool done);
  void save_profile();

  void begin_segment(const RunPlan& plan);
  void end_segment(const std::string& reason);

  std::vector<int64_t> my_clients() const {
    std::vector<int64_t> mine;
    for (int64_t client = 0; client < options_.clients; ++client)
      if (state_->placement.owner(client) == comm_.rank()) mine.push_back(client);
    return mine;
  }

  RunRequest& request_;
  const Options& options_;
  const Communicator& comm_;
  Observer& observer_;
  const Schedule schedule_;
  const Stopwatch since_start_;
  PhaseClock phases_;

  std::unique_ptr<Problem> problem_;
  std::unique_ptr<Algorithm> algorithm_;
  int64_t trainable_clients_ = 0;
  const std::function<double(int64_t)> work_ = [this](int64_t client) { return problem_->work(client); };
  ScoreShape score_shape_;
  AnswerShape answer_shape_;
  Texts texts_;  // of checkpoints
  RunHistory history_;
  bool was_complete_ = false;
  std::optional<RunState> state_;
  std::optional<OutputDirectory> directory_;  // on rank 0
  std::optional<RunRecorder> recorder_;       // on rank 0
  std::vector<std::vector<double>> trained_;  // of this rank in this round, as RunRecorder::round takes them
  RoundPace pace_;
  std::optional<LossWatch> loss_watch_;  // on rank 0
};

void Simulation::prepare() {
  const AlgorithmRow& row = find_algorithm(options_.algorithm);
  const OutputMode mode =
      comm_.together_value([&] { return output_mode(options_.resume, options_.overwrite); });
  comm_.together([&] {
    if (comm_.is_root()) directory_.emplace(options_.output, mode);
  });
  comm_.together([&] {
    torch::set_num_threads(int(options_.threads));
    problem_ = make_problem(options_, row.demands, comm_.local_rank());
    algorithm_ = row.make(options_, request_.method_options, *problem_);
    score_shape_ = score_shape(options_, *algorithm_, *problem_);
    answer_shape_ = answer_shape(options_, *algorithm_, *problem_);
    state_.emplace(*algorithm_, *problem_, options_.clients, comm_.size());
    trainable_clients_ =
        row.demands.pool == TrainingPool::all_as_one ? 1 : options_.clients - options_.held_out_clients;
  });
  problem_->pack_weights(
      [&](size_t bytes, const FillMemory& fill) { return comm_.filled_on_node(bytes, fill); });

  Texts provenance;
  comm_.together([&] {  // digests of large files take a while, and a dry run of a new run needs none
    if (comm_.is_root() && (!options_.dry_run || options_.resume)) provenance = problem_->provenance();
  });
  texts_ = checkpoint_texts(request_.config, digests(comm_, provenance));
  if (!options_.profile.empty() && !options_.dry_run) check_profile_file(comm_, options_.profile);
  comm_.together([&] {
    if (directory_ && !options_.dry_run) directory_->create();
  });
  if (options_.resume) {
    load_checkpoint(comm_, *state_, *algorithm_, options_.output + "/checkpoint.h5", [&](const Texts& saved) {
      check_resumed(saved, texts_, options_, algorithm_->rounds_matter());
      history_ = read_history(find_text(saved, kHistory));
    });
    comm_.together([&] { check_rounds_left(state_->round, options_); });
    was_complete_ =
        comm_.agree(state_->round == options_.rounds && directory_ && directory_->holds_complete_run());
    if (was_complete_) return;
  }
  std::vector<Group> groups = make_groups(draw_round_cohort(state_->round + 1), options_.lockstep, work_);
  Placement(state_->placement).place(groups, Placement::Use::trains);
  RunPlan plan = make_plan(options_, *problem_, *algorithm_, *state_, groups, comm_);
  if (options_.dry_run && options_.progress != "off") forecast(groups, plan);
  observer_.begin(plan);
  for (const std::string& note : notes_before(request_, *problem_, *algorithm_, *state_, plan))
    observer_.note(note);
  begin_segment(plan);
  if (options_.dry_run) return;
  if (directory_ && !directory_->locked())
    observer_.note("the file system of " + options_.output +
                   " has no locks: see that no other run writes there");
  comm_.together([&] {
    if (!comm_.is_root()) return;
    const ClientGroup first = state_->clients.group({0}, state_->common);
    recorder_.emplace(*directory_,
                      RunFacts{options_, request_.method_options, request_.config, history_, provenance,
                               score_shape_, plan, spectra_shape(*algorithm_, first), answer_shape_},
                      *problem_, *algorithm_, options_.resume ? std::optional(state_->round) : std::nullopt);
    loss_watch_.emplace(problem_->task() == Task::classification ? int64_t(problem_->class_names().size())
                                                                 : 0);
  });
}

void Simulation::forecast(const std::vector<Group>& groups, RunPlan& plan) {
  if (plan.first_round > plan.rounds) return;
  try {
    plan.forecast = make_forecast(options_, *problem_, *algorithm_, *state_, groups, plan, score_shape_,
                                  answer_shape_, comm_);
  } catch (const AgreedError& error) {
    if (error.code() != ExitCode::numerical_failure) throw;
    observer_.note(std::string("no forecast of the time, since its steps failed: ") + error.what());
  }
}

std::vector<int64_t> Simulation::draw_round_cohort(int64_t round) const {
  return draw_cohort(uint64_t(options_.seed), round, trainable_clients_,
                     std::min(options_.clients_per_round, trainable_clients_));
}

void Simulation::train(const std::vector<Group>& groups, int64_t round, ExactSum& sum) {
  trained_.clear();
  GroupProgress progress{round, 0, 0};
  for (const Group& group : groups) progress.total += group.rank == comm_.rank();
  for (const Group& group : groups) {
    if (group.rank != comm_.rank()) continue;
    ClientGroup rows = state_->clients.group(group.clients, state_->common);
    const ProfileSpan span("clients", "local steps of a group");
    const LocalReport report =
        algorithm_->local_steps(rows, {Purpose::batch, round, 0, options_.local_steps});
    check_finite(rows.common, group.clients, "common parameters", round, options_.local_steps - 1);
    check_finite(rows.own, group.clients, "own parameters", round, options_.local_steps - 1);
    try {
      algorithm_->contribute(rows, round, sum);
    } catch (const NumericalError& error) {
      throw NumericalError("in round " + std::to_string(round) + ", of client " +
                           shortened_list(group.clients, group.clients.size()) + ", " + error.what());
    }
    state_->clients.keep(rows);
    const double element = double(rows.common.element_size());
    for (size_t g = 0; g < group.clients.size(); ++g) {
      const ClientCost cost = algorithm_->cost(rows, g, round);
      trained_.push_back({double(group.clients[g]), report.loss[g], double(report.gradient_evaluations),
                          double(cost.sent) * element, double(cost.received) * element, double(cost.rank)});
    }
    ++progress.done;
    observer_.group_done(progress);
  }
}

Simulation::Records Simulation::ask_all_clients(const std::function<Records(const ClientGroup&)>& of_group) {
  std::vector<int64_t> clients(size_t(options_.clients));
  std::iota(clients.begin(), clients.end(), 0);
  std::vector<Group> groups = make_groups(clients, options_.lockstep, work_);
  exchange(comm_, *state_, state_->placement.place(groups, Placement::Use::reads),
           algorithm_->client_layout().size());
  Records mine;
  comm_.together([&] {
    for (const Group& group : groups) {
      if (group.rank != comm_.rank()) continue;
      for (auto& record : of_group(state_->clients.group(group.clients, state_->common)))
        mine.push_back(std::move(record));
    }
  });
  return gather_records(comm_, mine);
}

void Simulation::record_models(int64_t round) {
  if (schedule_.evaluates(round)) evaluate_clients(round);
  if (answer_shape_.task && schedule_.answers(round)) record_answers(round);
  phases_.passed(Phase::evaluate);
  if (schedule_.measures(round)) measure_spectra(round);
  phases_.passed(Phase::spectra);
}

void Simulation::evaluate_clients(int64_t round) {
  const Records all = ask_all_clients([&](const ClientGroup& rows) {
    Records records;
    for (const ClientScores& scores : evaluate(*algorithm_, *problem_, rows, score_shape_, round))
      records.push_back(scores.pack());
    return records;
  });
  comm_.together([&] {
    if (recorder_) recorder_->evaluation(round, all);
  });
}

void Simulation::record_answers(int64_t round) {
  const Records all = ask_all_clients([&](const ClientGroup& rows) {
    return answer(*algorithm_, *problem_, rows, answer_shape_,
                  batches_to_answer(*problem_, rows, answer_shape_));
  });
  comm_.together([&] {
    if (recorder_) recorder_->answers(round, all);
  });
}

void Simulation::measure_spectra(int64_t round) {
  std::vector<std::vector<double>> mine;
  comm_.together([&] {
    std::optional<ClientSpectra> spectra;
    for (int64_t client : my_clients()) {
      const bool alike = spectra && spectra->own.empty();  // no client has pairs of its own
      if (!alike) spectra = client_spectra(*algorithm_, state_->clients.group({client}, state_->common));
      spectra->client = client;
      mine.push_back(spectra->pack());
    }
  });
  const auto all = gather_records(comm_, mine);
  comm_.together([&] {
    if (recorder_) recorder_->spectra(round, all);
  });
}

void Simulation::record_round(int64_t round, const Stopwatch& watch) {
  const auto seconds = phases_.take();
  const auto by_process = comm_.gather(seconds);
  const auto trained = gather_records(comm_, trained_);
  comm_.together([&] {
    if (!recorder_) return;
    RoundReport report = recorder_->round(round, trained, by_process);
    report.seconds = watch.seconds();
    pace_.round_took(report.seconds);
    report.seconds_left = pace_.seconds_for(options_.rounds - round);
    observer_.end_round(report);
    if (const auto warning = loss_watch_->round(round, report.train_loss)) observer_.note(*warning);
  });
}

void Simulation::save(const std::string& ending) {
  history_.back().last_round = state_->round;
  if (!ending.empty()) end_segment(ending);
  comm_.together([&] {
    if (recorder_) recorder_->flush(state_->round);
  });
  // Before the checkpoint that says that all rounds are done.
  const bool last = state_->round == options_.rounds;
  if (last) write_adapters(comm_, *state_, *algorithm_, options_.output + "/adapters.h5");
  // After the last round too: such a run can be resumed with more --rounds.
  Texts texts = texts_;
  texts.emplace_back(kHistory, history_text(history_));
  save_checkpoint(comm_, *state_, options_.output + "/checkpoint.h5", texts);
}

void Simulation::begin_segment(const RunPlan& plan) {
  if (state_->round == options_.rounds && !history_.empty()) return;  // nothing is left to do
  RunSegment segment{
      .first_round = state_->round + 1, .last_round = state_->round, .start = request_.provenance};
  segment.start.push_back({"hosts", comm_.hosts()});
  segment.start.push_back({"ranks", plan.ranks});
  segment.start.push_back({"threads", plan.threads});
  segment.start.push_back({"backend", plan.backend});
  if (!history_.empty())
    for (const std::string& change : changes_of_bits(history_.back(), segment)) observer_.note(change);
  history_.push_back(std::move(segment));
}

void Simulation::end_segment(const std::string& reason) {
  history_.back().end_utc = utc_now();
  history_.back().reason = reason;
}

// A signal may have come to any of the ranks.
std::string Simulation::reason_to_stop(const TimeLimit& clock) const {
  for (const std::string& reason : comm_.all_gather(stop_reason()))
    if (!reason.empty()) return reason;
  return clock.reason();
}

void Simulation::end_run(bool done) {
  const auto last_phases = comm_.gather(phases_.take());
  const int64_t peak_bytes = comm_.all_reduce_max(peak_memory());
  comm_.together([&] {
    if (!recorder_) return;
    recorder_->add_phases(last_phases);
    if (done)
      recorder_->finish(history_);
    else
      recorder_->join(history_);  // what there is so far, for reading
    RunSummary summary = recorder_->summary();
    summary.seconds = since_start_.seconds();
    summary.peak_bytes = peak_bytes;
    observer_.end(summary);
  });
  save_profile();
}

// Nothing of the run is lost where the profile cannot be written.
void Simulation::save_profile() {
  if (!profile().recording()) return;
  try {
    write_profile(comm_, options_.profile);
  } catch (const AgreedError& error) {
    observer_.note(error.what());
  }
}

}  // namespace

RunOutcome simulate(RunRequest& request, const Communicator& comm, Observer& observer) {
  return Simulation(request, comm, observer).run();
}

}  // namespace pf2lora
