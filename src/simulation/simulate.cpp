#include "simulation/simulate.h"

#include <torch/torch.h>

#include <cmath>

#include "algorithm/registry.h"
#include "algorithm/row_optimizer.h"
#include "core/stop_signal.h"
#include "data/sampler.h"
#include "io/output_directory.h"
#include "simulation/adapters_file.h"
#include "simulation/evaluation.h"
#include "simulation/phases.h"
#include "simulation/plan.h"
#include "simulation/resume_check.h"
#include "simulation/run_recorder.h"
#include "simulation/run_state.h"
#include "simulation/schedule.h"
#include "simulation/spectra_table.h"

namespace pf2lora {
namespace {

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
    if (options_.dry_run) return {};
    TimeLimit clock(options_.max_hours);
    phases_.start();
    for (int64_t round = state_->round + 1; round <= options_.rounds; ++round) {
      const Stopwatch round_watch;
      std::vector<Group> groups = make_groups(draw_round_cohort(round), options_.lockstep,
                                              [&](int64_t client) { return problem_->work(client); });
      exchange(comm_, *state_, state_->placement.place(groups), algorithm_->client_layout().size(),
               problem_->model().options());
      phases_.passed(Phase::move);

      ExactSum sum(size_t(algorithm_->sent_layout().size()));
      comm_.together([&] { train(groups, round, sum); });
      phases_.passed(Phase::train);
      comm_.all_reduce(sum);
      comm_.together([&] { algorithm_->aggregate(state_->common, sum); });
      state_->round = round;
      phases_.passed(Phase::all_reduce);

      if (schedule_.evaluates(round)) evaluate_clients(round);
      phases_.passed(Phase::evaluate);
      if (schedule_.measures(round)) measure_spectra(round);
      phases_.passed(Phase::spectra);
      record_round(round, round_watch);

      clock.round_took(round_watch.seconds());
      const bool last = round == options_.rounds;
      const bool stop =
          comm_.agree(!last && (stop_requested() || clock.next_round_would_pass(since_start_.seconds())));
      if (schedule_.saves(round) || stop || last) save(last);
      phases_.passed(Phase::write);
      if (stop) return stopped(clock);
    }
    finish();
    return {};
  }

 private:
  // ---- before the first round: reads and checks everything, then makes the output directory -------------
  void prepare();
  std::vector<int64_t> draw_round_cohort(int64_t round) const;

  // ---- a round ------------------------------------------------------------------------------------------
  void train(const std::vector<Group>& groups, int64_t round, ExactSum& sum);
  void evaluate_clients(int64_t round);
  void measure_spectra(int64_t round);
  void record_round(int64_t round, const Stopwatch& watch);
  void save(bool last);

  // ---- the end ------------------------------------------------------------------------------------------
  void finish();
  RunOutcome stopped(const TimeLimit& clock);

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
  std::vector<int64_t> adaptation_steps_;
  Texts texts_;  // of checkpoints
  std::optional<RunState> state_;
  std::optional<OutputDirectory> directory_;  // on rank 0
  std::optional<RunRecorder> recorder_;       // on rank 0
  std::vector<std::vector<double>>
      trained_;               // of this rank in this round: client, loss, gradient evaluations
  double round_seconds_ = 0;  // of all rounds of this call
  int64_t rounds_here_ = 0;
};

void Simulation::prepare() {
  const AlgorithmRow& row = find_algorithm(options_.algorithm);
  comm_.together([&] {
    torch::set_num_threads(int(options_.threads));
    problem_ = make_problem(options_, row.pool);
    algorithm_ = row.make(options_, request_.method_options, *problem_);
    adaptation_steps_ = adaptation_steps(options_, *algorithm_);
    state_.emplace(*algorithm_, *problem_, options_.clients, comm_.size());
    trainable_clients_ =
        row.pool == TrainingPool::all_as_one ? 1 : options_.clients - options_.held_out_clients;
  });

  const OutputMode mode =
      comm_.together_value([&] { return output_mode(options_.resume, options_.overwrite); });
  Texts provenance;
  comm_.together([&] {
    if (!comm_.is_root()) return;
    directory_.emplace(options_.output, mode);
    provenance = problem_->provenance();
  });
  texts_ = checkpoint_texts(request_.config, digests(comm_, provenance));
  comm_.together([&] {
    if (directory_ && !options_.dry_run) directory_->create();
  });
  if (mode == OutputMode::resume) {
    load_checkpoint(comm_, *state_, *algorithm_, options_.output + "/checkpoint.h5",
                    [&](const Texts& saved) { check_resumed(saved, texts_, options_); });
    comm_.together([&] { check_rounds_left(state_->round, options_); });
  }
  const RunPlan plan = make_plan(options_, *problem_, *algorithm_, *state_, trainable_clients_, comm_);
  observer_.begin(plan);
  for (const std::string& note : problem_->partition().notes) observer_.note(note);
  if (options_.dry_run) return;
  if (directory_ && !directory_->locked())
    observer_.note("the file system of " + options_.output +
                   " has no locks: see that no other run writes there");
  comm_.together([&] {
    if (!comm_.is_root()) return;
    const ClientGroup first = state_->clients.group({0}, state_->common);
    recorder_.emplace(
        *directory_,
        RunFacts{options_, request_.method_options, request_.config, request_.provenance, provenance,
                 adaptation_steps_, plan, spectra_shape(*algorithm_, first), comm_.hosts()},
        *problem_, *algorithm_, mode == OutputMode::resume ? state_->round : 0);
  });
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
    const LocalReport report =
        algorithm_->local_steps(rows, {Purpose::batch, round, 0, options_.local_steps});
    check_finite(rows.common, group.clients, "common parameters", round, options_.local_steps - 1);
    check_finite(rows.own, group.clients, "own parameters", round, options_.local_steps - 1);
    algorithm_->contribute(rows, sum);
    state_->clients.keep(rows);
    for (size_t g = 0; g < group.clients.size(); ++g)
      trained_.push_back({double(group.clients[g]), report.loss[g], double(report.gradient_evaluations)});
    ++progress.done;
    observer_.group_done(progress);
  }
}

void Simulation::evaluate_clients(int64_t round) {
  std::vector<std::vector<double>> mine;
  comm_.together([&] {
    for (int64_t client : my_clients())
      mine.push_back(
          evaluate(*algorithm_, *problem_, state_->clients, client, state_->common, adaptation_steps_, round)
              .pack());
  });
  const auto all = gather_records(comm_, mine);
  comm_.together([&] {
    if (recorder_) recorder_->evaluation(round, all);
  });
}

void Simulation::measure_spectra(int64_t round) {
  std::vector<std::vector<double>> mine;
  comm_.together([&] {
    for (int64_t client : my_clients())
      mine.push_back(client_spectra(*algorithm_, state_->clients.group({client}, state_->common)).pack());
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
    round_seconds_ += watch.seconds();
    ++rounds_here_;
    RoundReport report = recorder_->round(round, trained, by_process);
    report.seconds = watch.seconds();
    report.seconds_left = round_seconds_ / double(rounds_here_) * double(options_.rounds - round);
    observer_.end_round(report);
  });
}

void Simulation::save(bool last) {
  comm_.together([&] {
    if (recorder_) recorder_->flush(state_->round);
  });
  // Before the checkpoint that says that all rounds are done.
  if (last) write_adapters(comm_, *state_, *algorithm_, options_.output + "/adapters.h5");
  // After the last round too: such a run can be resumed with more --rounds.
  save_checkpoint(comm_, *state_, options_.output + "/checkpoint.h5", texts_);
}

void Simulation::finish() {
  comm_.together([&] {
    if (!recorder_) return;
    recorder_->finish();
    observer_.end(recorder_->summary(since_start_.seconds()));
  });
}

RunOutcome Simulation::stopped(const TimeLimit& clock) {
  comm_.together([&] {
    if (recorder_) recorder_->join();  // what there is so far, for reading
  });
  std::string reason = stop_reason();
  comm_.broadcast(reason);
  return {ExitCode::checkpointed, reason.empty() ? clock.reason() : reason};
}

}  // namespace

RunOutcome simulate(RunRequest& request, const Communicator& comm, Observer& observer) {
  return Simulation(request, comm, observer).run();
}

}  // namespace pf2lora
