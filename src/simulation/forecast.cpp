#include "simulation/forecast.h"

#include <algorithm>
#include <numeric>

#include "core/clock.h"
#include "core/exact_sum.h"
#include "core/memory.h"
#include "data/apportion.h"
#include "simulation/schedule.h"

namespace pf2lora {
namespace {

constexpr double kSeconds = 1;  // that local steps are timed for, about, new ones and again

double seconds_of(const auto& work) {
  const Stopwatch watch;
  work();
  return watch.seconds();
}

double largest(const Communicator& comm, double value) {
  const auto all = comm.all_gather(std::span<const double>(&value, 1));
  return std::ranges::max_element(all)->front();
}

// Seconds of a local step of the group.
ForecastSeconds time_step(const Algorithm& algorithm, const ClientGroup& group, int64_t round,
                          int64_t local_steps) {
  const auto steps = [&](int64_t first_step, int64_t count) {
    ClientGroup copy = group;
    copy.common = group.common.clone();
    copy.own = group.own.clone();
    return seconds_of([&] { algorithm.local_steps(copy, {Purpose::batch, round, first_step, count}); });
  };
  steps(0, 1);
  const int64_t count = std::clamp<int64_t>(int64_t(kSeconds / steps(1, 1)), 1, local_steps);
  const double first = steps(2, count) / double(count);
  return {first, std::min(first, steps(2, count) / double(count))};
}

// The share of the frozen states under the lowest adapter that the ranks keep.
double kept_states(const Options& options, const Problem& problem, int64_t ranks) {
  const double bytes = double(problem.prefix_bytes());
  return bytes > 0 ? std::min(1.0, double(options.prefix_cache << 20) * double(ranks) / bytes) : 1;
}

// The share of a client's local steps in so many rounds that it takes to see its examples once.
double new_steps(const Options& options, const RunPlan& plan, int64_t rounds) {
  const auto& examples = plan.train_examples;
  if (examples.empty()) return 0;
  const double mean = double(sum(examples)) / double(plan.clients);
  const double part = double(plan.clients_per_round) / double(plan.clients - plan.held_out_clients);
  return std::min(1.0, mean / (double(options.batch_size * options.local_steps * rounds) * part));
}

struct Load {
  double most = 0;  // work of the rank that has most
  double busy = 1;  // mean work of a rank over it
};

Load load_of(const std::vector<Group>& groups, int64_t ranks) {
  std::vector<double> work(static_cast<size_t>(ranks));
  for (const Group& group : groups) work[size_t(group.rank)] += group.work;
  const double most = *std::ranges::max_element(work);
  const double mean = std::accumulate(work.begin(), work.end(), 0.0) / double(ranks);
  return {most, most > 0 ? mean / most : 1};
}

Load load_on(std::vector<Group> groups, int64_t clients, int64_t ranks) {
  Placement(clients, int(ranks)).place(groups, Placement::Use::trains);
  return load_of(groups, ranks);
}

ForecastSeconds times(const ForecastSeconds& seconds, double factor) {
  return {seconds.first * factor, seconds.later * factor};
}

}  // namespace

RunForecast make_forecast(const Options& options, const Problem& problem, const Algorithm& algorithm,
                          const RunState& state, const std::vector<Group>& groups, const RunPlan& plan,
                          const ScoreShape& scores, const AnswerShape& answers, const Communicator& comm) {
  const int64_t round = state.round + 1;
  const auto mine =
      std::ranges::find_if(groups, [&](const Group& group) { return group.rank == comm.rank(); });
  const Group& timed = mine == groups.end() ? groups.front() : *mine;

  RunForecast forecast;
  forecast.step_clients = int64_t(timed.clients.size());
  ForecastSeconds evaluation;  // of that group
  double answering = 0;        // likewise
  comm.together([&] {
    const ClientGroup group = state.clients.group(timed.clients, state.common);
    forecast.step = time_step(algorithm, group, round, options.local_steps);
    const auto evaluate_group = [&] { evaluate(algorithm, problem, group, scores, round); };
    evaluation.first = seconds_of(evaluate_group);
    evaluation.later = std::min(evaluation.first, seconds_of(evaluate_group));
    if (!answers.task) return;
    const std::vector<Batch> batches = batches_to_answer(problem, group, answers);
    answering = double(batches.size()) *
                seconds_of([&] { answer(algorithm, problem, group, answers, std::span(batches).first(1)); });
  });
  forecast.peak_bytes = int64_t(largest(comm, double(peak_memory())));
  const double kept = kept_states(options, problem, comm.size());
  for (ForecastSeconds* seconds : {&forecast.step, &evaluation})
    seconds->later = kept * seconds->later + (1 - kept) * seconds->first;

  const double steps_per_work = timed.work > 0 ? double(options.local_steps) / timed.work : 0;
  const ForecastSeconds per_work = {largest(comm, forecast.step.first * steps_per_work),
                                    largest(comm, forecast.step.later * steps_per_work)};
  forecast.train = times(per_work, load_of(groups, comm.size()).most);
  forecast.step = {largest(comm, forecast.step.first), largest(comm, forecast.step.later)};
  forecast.step_clients = int64_t(largest(comm, double(forecast.step_clients)));

  ExactSum sum(size_t(algorithm.sum_size(round)));
  comm.all_reduce(sum);
  forecast.all_reduce = largest(comm, seconds_of([&] { comm.all_reduce(sum); }));

  const ForecastSeconds evaluate_group = {largest(comm, evaluation.first), largest(comm, evaluation.later)};
  const double answer_group = largest(comm, answering);
  const auto groups_of_rank = [&](int64_t ranks) {  // of all clients
    const int64_t at_once = forecast.step_clients * ranks;
    return double((options.clients + at_once - 1) / at_once);
  };
  forecast.evaluate = times(evaluate_group, groups_of_rank(comm.size()));
  forecast.answers = answer_group * groups_of_rank(comm.size());
  const Schedule schedule(options);
  for (int64_t r = round; r <= options.rounds; ++r) {
    forecast.evaluations += schedule.evaluates(r);
    forecast.answer_rounds += answers.task && schedule.answers(r);
  }

  const auto of_all = [](const ForecastSeconds& seconds, double count, double new_ones) {
    return count * seconds.later + new_ones * (seconds.first - seconds.later);
  };
  const auto rounds = double(options.rounds - state.round);
  const double new_rounds = rounds * new_steps(options, plan, options.rounds - state.round);
  const auto all_rounds = [&](const ForecastSeconds& train, double all_groups) {
    return rounds * forecast.all_reduce + of_all(train, rounds, new_rounds) +
           all_groups *
               (double(forecast.answer_rounds) * answer_group +
                of_all(evaluate_group, double(forecast.evaluations), forecast.evaluations > 0 ? 1 : 0));
  };
  forecast.rounds = all_rounds(forecast.train, groups_of_rank(comm.size()));

  constexpr int64_t kMostRanks = 4096;
  const int64_t most = std::min(int64_t(groups.size()), kMostRanks);
  const auto on = [&](int64_t ranks) {
    const Load load = load_on(groups, options.clients, ranks);
    const ForecastSeconds train = times(per_work, load.most);
    forecast.by_ranks.push_back({ranks, train.later, load.busy, all_rounds(train, groups_of_rank(ranks))});
  };
  for (int64_t ranks = 1; ranks < most; ranks *= 2) on(ranks);
  on(most);
  return forecast;
}

}  // namespace pf2lora
