#include "simulation/forecast.h"

#include <algorithm>
#include <numeric>

#include "core/clock.h"
#include "core/exact_sum.h"
#include "simulation/schedule.h"

namespace pf2lora {
namespace {

constexpr double kSeconds = 2;  // that local steps are timed for, about

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
double time_step(const Algorithm& algorithm, const ClientGroup& group, int64_t round, int64_t local_steps) {
  const auto steps = [&](int64_t count) {
    ClientGroup copy = group;
    copy.common = group.common.clone();
    copy.own = group.own.clone();
    return seconds_of([&] { algorithm.local_steps(copy, {Purpose::batch, round, 0, count}); });
  };
  steps(1);
  const double first = steps(1);
  const int64_t count = std::clamp<int64_t>(int64_t(kSeconds / first), 1, local_steps);
  return (count == 1 ? first : steps(count)) / double(count);
}

RunForecast::OnRanks on_ranks(std::vector<Group> groups, int64_t clients, int64_t ranks,
                              double seconds_per_work) {
  Placement(clients, int(ranks)).place(groups, Placement::Use::trains);
  std::vector<double> work(static_cast<size_t>(ranks));
  for (const Group& group : groups) work[size_t(group.rank)] += group.work;
  const double most = *std::ranges::max_element(work);
  const double mean = std::accumulate(work.begin(), work.end(), 0.0) / double(ranks);
  return {ranks, most * seconds_per_work, most > 0 ? mean / most : 1};
}

}  // namespace

RunForecast make_forecast(const Options& options, const Problem& problem, const Algorithm& algorithm,
                          const RunState& state, const std::vector<Group>& groups, const ScoreShape& scores,
                          const Communicator& comm) {
  const int64_t round = state.round + 1;
  const auto mine =
      std::ranges::find_if(groups, [&](const Group& group) { return group.rank == comm.rank(); });
  const Group& timed = mine == groups.end() ? groups.front() : *mine;

  RunForecast forecast;
  forecast.step_clients = int64_t(timed.clients.size());
  double evaluation = 0;
  comm.together([&] {
    const ClientGroup group = state.clients.group(timed.clients, state.common);
    forecast.step = time_step(algorithm, group, round, options.local_steps);
    evaluation = seconds_of([&] { evaluate(algorithm, problem, group, scores, round); });
  });
  const double seconds_per_work =
      timed.work > 0 ? largest(comm, forecast.step * double(options.local_steps) / timed.work) : 0;
  std::vector<double> work(static_cast<size_t>(comm.size()));
  for (const Group& group : groups) work[size_t(group.rank)] += group.work;
  forecast.train = seconds_per_work * *std::ranges::max_element(work);

  ExactSum sum(size_t(algorithm.sum_size(round)));
  comm.all_reduce(sum);
  forecast.all_reduce = largest(comm, seconds_of([&] { comm.all_reduce(sum); }));

  const int64_t per_group = forecast.step_clients * comm.size();
  forecast.evaluate = largest(comm, evaluation) * double((options.clients + per_group - 1) / per_group);
  const Schedule schedule(options);
  for (int64_t r = round; r <= options.rounds; ++r) forecast.evaluations += schedule.evaluates(r);
  forecast.rounds = double(options.rounds - state.round) * (forecast.train + forecast.all_reduce) +
                    double(forecast.evaluations) * forecast.evaluate;

  constexpr int64_t kMostRanks = 4096;
  const int64_t most = std::min(int64_t(groups.size()), kMostRanks);
  for (int64_t ranks = 1; ranks < most; ranks *= 2)
    forecast.by_ranks.push_back(on_ranks(groups, options.clients, ranks, seconds_per_work));
  forecast.by_ranks.push_back(on_ranks(groups, options.clients, most, seconds_per_work));
  return forecast;
}

}  // namespace pf2lora
