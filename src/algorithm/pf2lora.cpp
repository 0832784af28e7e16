#include "algorithm/pf2lora.h"

#include <torch/types.h>

#include <cmath>
#include <limits>

#include "algorithm/registry.h"
#include "algorithm/spectral_penalty.h"

namespace pf2lora {

using torch::Tensor;

void Pf2LoraOptions::visit(OptionVisitor& v) {
  v.option(
      "hypergradient", hypergradient,
      "mixed term of the hypergradient: by double backward, by differences, left out, or both levels on one "
      "gradient without a bilevel problem",
      one_of({"exact", "finite-difference", "first-order", "joint"}));
  v.option("finite-difference", finite_difference, "scheme of --hypergradient finite-difference",
           one_of({"one-sided", "central"}));
  v.option("finite-difference-norm", finite_difference_norm,
           "norm of the step that a difference takes, a client; 0: 1e-3 one-sided, 5e-3 central",
           at_least(0));
  v.option(
      "spectral-penalty", spectral_penalty,
      "lambda of a penalty on singular values, by which ranks fall: a client's own directions last where "
      "its loss falls along them by more than lambda, common ones at lambda / sqrt(clients)",
      at_least(0));
  v.option(
      "spectral-free", spectral_free,
      "share of a site's largest singular value from which on that penalty ends up leaving singular values "
      "as they are; large: a nuclear norm",
      positive().not_with("spectral-penalty", {"0"}));
}

Pf2Lora::Pf2Lora(const Options& options, const Pf2LoraOptions& own, const Problem& problem)
    : Pf2Lora(options, own, problem,
              Level(problem.model().sites(), options.rank, problem.scale(options.rank), {"A", "B"},
                    head_of(Owner::common, options, problem)),
              Level(problem.model().sites(), options.client_rank,
                    problem.scale(std::max<int64_t>(options.client_rank, 1)), {"C", "D"},
                    head_of(Owner::client, options, problem))) {}

Pf2Lora::Pf2Lora(const Options& options, const Pf2LoraOptions& own, const Problem& problem, Level common,
                 Level client)
    : Algorithm(options, problem),
      own_(own),
      common_(std::move(common), Owner::common, common_rule(options), options, common_layout_,
              client_layout_),
      client_(std::move(client), Owner::client, Rule::sgd, options, common_layout_, client_layout_) {
  if (own_.spectral_penalty == 0 || common_.level().rank() == 0) return;
  const auto sites = int64_t(common_.level().sites().size());
  common_times_ =
      Block{common_layout_.slices()[common_layout_.add("spectral-penalty/times", {sites})].offset, sites};
}

void Pf2Lora::initial_common(Tensor row) const {
  common_.initialise(Owner::common, row, KeyedRandom(uint64_t(options_.seed), Purpose::common_initial));
}

void Pf2Lora::initial_client(int64_t client, Tensor row) const {
  client_.initialise(Owner::client, row,
                     KeyedRandom(uint64_t(options_.seed), Purpose::client_initial, client));
}

AdapterSet Pf2Lora::adapters(const Tensor& x, const Tensor& y) const {
  const std::array levels = {&common_.level(), &client_.level()};
  const std::array rows = {x, y};
  return compose(levels, rows);
}

Pf2Lora::Rows Pf2Lora::rows_of(const AdapterSet& gradient) const {
  const std::array levels = {&common_.level(), &client_.level()};
  auto rows = split(levels, gradient);
  return {rows[0], rows[1]};
}

Tensor Pf2Lora::difference(const Tensor& x, const Tensor& y, const Tensor& v, const Tensor& at_y,
                           const Batch& batch) const {
  const bool central = own_.finite_difference == "central";
  const double norm = own_.finite_difference_norm > 0 ? own_.finite_difference_norm : central ? 5e-3 : 1e-3;
  const Tensor epsilon = norm / v.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-30);  // [G, 1]
  const auto gradient_at = [&](const Tensor& moved) {
    return rows_of(problem_.model().gradient(batch, adapters(x, moved)).rows).x;
  };
  const Tensor ahead = gradient_at(y + epsilon * v);
  return central ? (ahead - gradient_at(y - epsilon * v)) / (2 * epsilon) : (ahead - at_y) / epsilon;
}

Pf2Lora::Step Pf2Lora::bilevel_step(const Tensor& x, const Tensor& y, const Batch& lower, const Batch& upper,
                                    double client_rate) const {
  const Model& model = problem_.model();
  const bool exact = own_.hypergradient == "exact";
  const Gradient first = model.gradient(lower, adapters(x, y), exact ? Keep::pass : Keep::nothing);
  const Rows at_y = rows_of(first.rows);
  const Tensor next = y - client_rate * at_y.y;
  const Gradient second = model.gradient(upper, adapters(x, next));
  const Rows direct = rows_of(second.rows);

  Step step{second.loss, direct.x, next, 2};
  if (own_.hypergradient == "first-order") return step;
  const Tensor mixed = exact ? rows_of(model.tangent(*first.pass, adapters(torch::zeros_like(x), direct.y))).x
                             : difference(x, y, direct.y, at_y.x, lower);
  step.hypergradient = direct.x - client_rate * mixed;
  step.gradient_evaluations += exact || own_.finite_difference == "one-sided" ? 1 : 2;
  return step;
}

Pf2Lora::Step Pf2Lora::joint_step(const Tensor& x, const Tensor& y, const Batch& batch,
                                  double client_rate) const {
  const Gradient gradient = problem_.model().gradient(batch, adapters(x, y));
  const Rows rows = rows_of(gradient.rows);
  return {gradient.loss, rows.x, y - client_rate * rows.y, 1};
}

LocalReport Pf2Lora::local_steps(ClientGroup& group, const LocalSchedule& schedule) const {
  LossMeter losses(group.clients.size());
  const auto states = common_.states(group);
  double client_time = 0;
  if (common_times_) common_times(group.common).zero_();
  const bool joint = client_.empty() || own_.hypergradient == "joint";
  for (int64_t i = 0; i < schedule.steps; ++i) {
    const int64_t step = schedule.first_step + i;
    const auto batch = [&](int64_t slot) {
      return problem_.training_batch(group.clients, schedule.purpose, schedule.round, step, slot);
    };
    const Tensor x = common_.rows(group), y = client_.rows(group);
    const double client_rate = scheduled_rate(options_, options_.client_learning_rate, schedule.round, step);
    Step result =
        joint ? joint_step(x, y, batch(0), client_rate) : bilevel_step(x, y, batch(1), batch(0), client_rate);
    losses.add(result.loss, group.clients, schedule.round, step, result.gradient_evaluations);

    const double common_rate = scheduled_rate(options_, options_.learning_rate, schedule.round, step);
    common_.step(group, result.hypergradient, states, common_rate);
    y.copy_(result.next_client);
    client_time += client_rate;
    if (common_times_) add_common_times(group, states, common_rate);
  }
  if (own_.spectral_penalty > 0) penalise_clients(group, schedule.round, client_time);
  return losses.report(schedule.steps);
}

bool Pf2Lora::common_comes_first(int64_t round) const {
  return 10 * (round - 1) < options_.rounds;
}

Tensor Pf2Lora::common_times(const Tensor& common) const {
  return common.narrow(1, common_times_->offset, common_times_->size);
}

void Pf2Lora::add_common_times(ClientGroup& group, const TrainedLevel::States& states, double rate) const {
  const Level& level = common_.level();
  for (size_t site = 0; site < level.sites().size(); ++site) {
    const Slice& up = level.layout().slices()[level.sites().size() + site];
    common_times(group.common)
        .select(1, int64_t(site))
        .add_(common_.response(states, {up.offset, up.size}, rate).to(group.common.scalar_type()));
  }
}

// Client by client, so that the bits are the same in any group.
void Pf2Lora::penalise_clients(const ClientGroup& group, int64_t round, double time) const {
  const Tensor x = common_.rows(group), y = client_.rows(group);
  const Level& level = client_.level();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (size_t g = 0; g < group.clients.size() && level.rank() > 0; ++g) {
    const auto common = largest_singular_values(common_.level(), x[int64_t(g)]);
    const auto own = largest_singular_values(level, y[int64_t(g)]);
    for (size_t site = 0; site < level.sites().size(); ++site) {
      SpectralPenalty penalty{own_.spectral_penalty,
                              own_.spectral_free * std::max(own[site], common.empty() ? 0 : common[site])};
      if (common_comes_first(round)) penalty = {kInfinity, kInfinity};
      shrink_singular_values(level.down(y, site)[int64_t(g)], level.up(y, site)[int64_t(g)], level.scale(),
                             time, penalty);
    }
  }
}

void Pf2Lora::aggregate(Tensor common, int64_t round, const ExactSum& sum) const {
  Algorithm::aggregate(common, round, sum);
  if (!common_times_ || common_comes_first(round)) return;
  const double clients = sum.value(sum.size() - 1);
  const Tensor rows = common.unsqueeze(0), x = common_.rows(rows, {}), times = common_times(rows)[0];
  const Level& level = common_.level();
  const auto largest = largest_singular_values(level, x[0]);
  for (size_t site = 0; site < level.sites().size(); ++site)
    shrink_singular_values(level.down(x, site)[0], level.up(x, site)[0], level.scale(),
                           times[int64_t(site)].item<double>(),
                           {own_.spectral_penalty / std::sqrt(clients), own_.spectral_free * largest[site]});
}

std::optional<AdapterSet> Pf2Lora::common_model(const Tensor& common) const {
  if (!common_.level().has_head() && problem_.model().head()) return std::nullopt;
  const std::array levels = {&common_.level()};
  const std::array rows = {common_.rows(common, {})};
  return compose(levels, rows);
}

AdapterSet Pf2Lora::personal_model(const ClientGroup& group) const {
  return adapters(common_.rows(group), client_.rows(group));
}

LevelRows Pf2Lora::common_level(const ClientGroup& group) const {
  return {&common_.level(), common_.rows(group)};
}
LevelRows Pf2Lora::client_level(const ClientGroup& group) const {
  return {&client_.level(), client_.rows(group)};
}

AlgorithmRow pf2lora() {
  return {
      "pf2lora", "two levels: a common adapter and under it each client's own (bilevel)",
      [](const Options& options, const OptionSet* own, const Problem& problem) -> std::unique_ptr<Algorithm> {
        return std::make_unique<Pf2Lora>(options, dynamic_cast<const Pf2LoraOptions&>(*own), problem);
      },
      []() -> std::unique_ptr<OptionSet> { return std::make_unique<Pf2LoraOptions>(); }};
}

}  // namespace pf2lora
