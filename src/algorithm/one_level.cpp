#include "algorithm/one_level.h"

#include <torch/types.h>

namespace pf2lora {
namespace {

TrainedLevel make_level(const Options& options, const Problem& problem, Owner pairs, Owner level_owner,
                        const OneLevel::MakeShares& shares, ParameterLayout& common,
                        ParameterLayout& client) {
  const bool holds_pairs = pairs == level_owner;
  const auto head = pairs == Owner::client ? (holds_pairs ? problem.model().head() : std::nullopt)
                                           : head_of(level_owner, options, problem);
  Level level(problem.model().sites(), holds_pairs ? options.rank : 0, problem.scale(options.rank),
              {"A", "B"}, head);
  if (!holds_pairs) return {level, level_owner, common_rule(options), options, common, client};
  return {level, shares(level), common_rule(options), options, common, client};
}

}  // namespace

OneLevel::OneLevel(const Options& options, const Problem& problem, Owner owner)
    : OneLevel(options, problem, owner, [owner](const Level& level) {
        return std::vector<Share>{{{0, level.size()}, owner}};
      }) {}

OneLevel::OneLevel(const Options& options, const Problem& problem, Owner owner, const MakeShares& shares)
    : Algorithm(options, problem),
      owner_(owner),
      common_(make_level(options, problem, owner, Owner::common, shares, common_layout_, client_layout_)),
      own_(make_level(options, problem, owner, Owner::client, shares, common_layout_, client_layout_)) {}

// All parts start from the same values, the clients' own too: those that a common adapter would start from.
void OneLevel::initial_common(torch::Tensor row) const {
  const KeyedRandom random(uint64_t(options_.seed), Purpose::common_initial);
  for (const TrainedLevel* level : {&common_, &own_}) level->initialise(Owner::common, row, random);
}

void OneLevel::initial_client(int64_t, torch::Tensor row) const {
  const KeyedRandom random(uint64_t(options_.seed), Purpose::common_initial);
  for (const TrainedLevel* level : {&common_, &own_}) level->initialise(Owner::client, row, random);
}

OneLevel::Direction OneLevel::gradient(const Batch& batch, const ClientGroup& group) const {
  const std::array levels = {&common_.level(), &own_.level()};
  const Gradient gradient = problem_.model().gradient(batch, personal_model(group));
  auto rows = split(levels, gradient.rows);
  return {gradient.loss, rows[0], rows[1]};
}

OneLevel::Direction OneLevel::direction(const ClientGroup& group, const LocalSchedule& schedule,
                                        int64_t step) const {
  return gradient(batch(group, schedule, step, 0), group);
}

LocalReport OneLevel::local_steps(ClientGroup& group, const LocalSchedule& schedule) const {
  LossMeter losses(group.clients.size());
  const auto common_states = common_.states(group), own_states = own_.states(group);
  for (int64_t i = 0; i < schedule.steps; ++i) {
    const int64_t step = schedule.first_step + i;
    const Direction along = direction(group, schedule, step);
    losses.add(along.loss, group.clients, schedule.round, step, along.gradient_evaluations);
    const double rate = scheduled_rate(options_, options_.learning_rate, schedule.round, step);
    common_.step(group, along.common, common_states, rate, moving_of(Owner::common, schedule.round));
    own_.step(group, along.own, own_states, rate, moving_of(Owner::client, schedule.round));
  }
  return losses.report(schedule.steps);
}

std::vector<Block> OneLevel::sent_blocks(int64_t round) const {
  auto blocks = common_.common_blocks(moving_of(Owner::common, round));
  for (const Block& block : own_.common_blocks(moving_of(Owner::client, round))) blocks.push_back(block);
  return blocks;
}

int64_t OneLevel::trained_size(int64_t round) const {
  return common_.trained_size(moving_of(Owner::common, round)) +
         own_.trained_size(moving_of(Owner::client, round));
}

std::optional<AdapterSet> OneLevel::common_model(const torch::Tensor& common) const {
  if (is_personal()) return std::nullopt;
  const std::array levels = {&common_.level()};
  const std::array rows = {common_.rows(common, {})};
  AdapterSet adapters = compose(levels, rows);
  adapters.dense = base_delta(common);
  return adapters;
}

AdapterSet OneLevel::personal_model(const ClientGroup& group) const {
  const std::array levels = {&common_.level(), &own_.level()};
  const std::array rows = {common_.rows(group), own_.rows(group)};
  AdapterSet adapters = compose(levels, rows);
  adapters.dense = base_delta(group.common);
  return adapters;
}

LevelRows OneLevel::common_level(const ClientGroup& group) const {
  return {&common_.level(), common_.rows(group)};
}
LevelRows OneLevel::client_level(const ClientGroup& group) const {
  return {&own_.level(), own_.rows(group)};
}

}  // namespace pf2lora
