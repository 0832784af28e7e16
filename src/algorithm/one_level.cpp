#include "algorithm/one_level.h"

#include <torch/torch.h>

namespace pf2lora {
namespace {

Level make_level(const Options& options, const Problem& problem, Owner pairs, Owner level) {
  const bool holds_pairs = pairs == level;
  const auto head = pairs == Owner::client ? (holds_pairs ? problem.model().head() : std::nullopt)
                                           : head_of(level, options, problem);
  return Level(problem.model().sites(), holds_pairs ? options.rank : 0, problem.scale(options.rank),
               {"A", "B"}, head);
}

}  // namespace

OneLevel::OneLevel(const Options& options, const Problem& problem, Owner owner)
    : Algorithm(options, problem),
      common_(make_level(options, problem, owner, Owner::common), Owner::common, common_rule(options),
              options, common_layout_, client_layout_),
      own_(make_level(options, problem, owner, Owner::client), Owner::client, common_rule(options), options,
           common_layout_, client_layout_) {
  send_common_row();
}

void OneLevel::initial_common(torch::Tensor row) const {
  common_.initialise(row, KeyedRandom(uint64_t(options_.seed), Purpose::common_initial));
}

// Every client starts from the same values: those that a common adapter would start from.
void OneLevel::initial_client(int64_t, torch::Tensor row) const {
  own_.initialise(row, KeyedRandom(uint64_t(options_.seed), Purpose::common_initial));
}

LocalReport OneLevel::local_steps(ClientGroup& group, const LocalSchedule& schedule) const {
  LossMeter losses(group.clients.size());
  const auto common_state = common_.state(group), own_state = own_.state(group);
  const std::array levels = {&common_.level(), &own_.level()};
  for (int64_t i = 0; i < schedule.steps; ++i) {
    const int64_t step = schedule.first_step + i;
    const Batch batch = problem_.training_batch(group.clients, schedule.purpose, schedule.round, step, 0);
    const Gradient gradient = problem_.model().gradient(batch, personal_model(group));
    losses.add(gradient.loss, group.clients, schedule.round, step);

    auto rows = split(levels, gradient.rows);
    const double rate = scheduled_rate(options_, options_.learning_rate, schedule.round, step);
    for (torch::Tensor& row : rows) clip_rows(row, options_.clip);
    common_.step(group, rows[0], common_state, rate);
    own_.step(group, rows[1], own_state, rate);
  }
  return losses.report(schedule.steps);
}

std::optional<AdapterSet> OneLevel::common_model(const torch::Tensor& common) const {
  if (is_personal()) return std::nullopt;
  const std::array levels = {&common_.level()};
  const std::array rows = {common_.rows(common)};
  return compose(levels, rows);
}

AdapterSet OneLevel::personal_model(const ClientGroup& group) const {
  const std::array levels = {&common_.level(), &own_.level()};
  const std::array rows = {common_.rows(group), own_.rows(group)};
  return compose(levels, rows);
}

LevelRows OneLevel::common_level(const ClientGroup& group) const {
  return {&common_.level(), common_.rows(group)};
}
LevelRows OneLevel::client_level(const ClientGroup& group) const {
  return {&own_.level(), own_.rows(group)};
}

}  // namespace pf2lora
