#include "algorithm/pf2lora.h"

#include <torch/torch.h>

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
  v.option("spectral-penalty", spectral_penalty,
           "weight of the nuclear norm of each client's own update, by which its rank can fall", at_least(0));
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
      client_(std::move(client), Owner::client, Rule::sgd, options, common_layout_, client_layout_) {}

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

    common_.step(group, result.hypergradient, states,
                 scheduled_rate(options_, options_.learning_rate, schedule.round, step));
    y.copy_(result.next_client);
    if (own_.spectral_penalty > 0)
      shrink_singular_values(client_.level(), y, client_rate, own_.spectral_penalty);
  }
  return losses.report(schedule.steps);
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
