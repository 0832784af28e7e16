// Methods made by name with options of their own, rounds of them, and what they are compared with: the parts
// of a row by their names, dense products, and losses and gradients straight from the model.
#pragma once
#include <torch/optim.h>
#include <torch/types.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "algorithm/registry.h"
#include "algorithm/small_problem.h"
#include "core/option_values.h"

namespace pf2lora {

inline Options sgd_options() {
  Options options = small_options();
  options.optimizer = "sgd";
  options.learning_rate = 0.2;
  return options;
}

struct Setting {
  std::string name, value;
};

inline std::unique_ptr<Algorithm> make_method(const std::string& name, const Options& options,
                                              const Problem& problem,
                                              const std::vector<Setting>& settings = {}) {
  const AlgorithmRow& row = find_algorithm(name);
  const auto own = row.make_options ? row.make_options() : nullptr;
  for (const Setting& setting : settings) {
    bool found = false;
    for (const OptionEntry& entry : list_options(*own)) {
      if (entry.name != setting.name) continue;
      assign_value(entry, setting.value);
      found = true;
    }
    if (!found) throw std::out_of_range(name + " has no option " + setting.name);
  }
  return row.make(options, own.get(), problem);
}

// The part of rows [G, layout] of that name.
inline torch::Tensor part(const ParameterLayout& layout, const torch::Tensor& rows, const std::string& name) {
  return view(rows, layout.find(name));
}

inline bool has_slice(const ParameterLayout& layout, const std::string& start_of_name) {
  for (const Slice& slice : layout.slices())
    if (slice.name.starts_with(start_of_name)) return true;
  return false;
}

// s B A of every client at a site: [G, out, in].
inline torch::Tensor dense_product(const Level& level, const torch::Tensor& rows, const Site& site) {
  return level.scale() *
         part(level.layout(), rows, site.name + "/B").matmul(part(level.layout(), rows, site.name + "/A"));
}

// A group whose levels are random, as if trained, copies of what is common included; everything else starts
// as it does in a run.
inline ClientGroup random_group(const Algorithm& algorithm, const Problem& problem,
                                const std::vector<int64_t>& clients, uint64_t seed = 4) {
  ClientGroup group = start_group(algorithm, problem, clients);
  if (has_slice(algorithm.client_layout(), "started"))
    part(algorithm.client_layout(), group.own, "started").fill_(1);
  RandomTensors random(seed);
  for (const LevelRows& level : {algorithm.common_level(group), algorithm.client_level(group)})
    if (level.rows.size(1) > 0)
      level.rows.copy_(random.normal({level.rows.size(0), level.rows.size(1)}, 0.3));
  return group;
}

// What aggregation makes of the common row that a round began with.
inline torch::Tensor aggregated(const Algorithm& algorithm, const std::vector<ClientGroup>& groups,
                                const torch::Tensor& before, int64_t round) {
  ExactSum sum(size_t(algorithm.sum_size(round)));
  for (const ClientGroup& group : groups) algorithm.contribute(group, round, sum);
  torch::Tensor common = before.clone();
  algorithm.aggregate(common, round, sum);
  return common;
}

inline std::vector<ClientGroup> two_groups(const Algorithm& algorithm, const Problem& problem) {
  return {start_group(algorithm, problem, {0, 3}), start_group(algorithm, problem, {1})};
}

// Local steps of all groups, and then the aggregate in every one of them.
inline void play_round(const Algorithm& algorithm, std::vector<ClientGroup>& groups, int64_t round,
                       int64_t steps) {
  const torch::Tensor before = groups.front().common[0].clone();
  for (ClientGroup& group : groups) algorithm.local_steps(group, {.round = round, .steps = steps});
  const torch::Tensor common = aggregated(algorithm, groups, before, round);
  for (ClientGroup& group : groups) group.common.copy_(common.expand_as(group.common));
}

// All clients' rows of the common level, group after group.
inline torch::Tensor common_rows(const Algorithm& algorithm, const std::vector<ClientGroup>& groups) {
  std::vector<torch::Tensor> rows;
  for (const ClientGroup& group : groups) rows.push_back(algorithm.common_level(group).rows);
  return torch::cat(rows);
}

// The mean loss of each client of a batch under those adapters: [G].
inline torch::Tensor client_losses(const Problem& problem, const Batch& batch, const AdapterSet& adapters) {
  const torch::Tensor losses = problem.model().loss(batch, adapters).loss;
  std::vector<torch::Tensor> means;
  for (size_t g = 0; g < batch.clients.size(); ++g)
    means.push_back(losses.slice(0, batch.client_offsets[g], batch.client_offsets[g + 1]).mean());
  return torch::stack(means);
}

// One level of pairs and a head, whoever owns them.
class PlainLevel {
 public:
  PlainLevel(const Options& options, const Problem& problem)
      : problem_(problem),
        level_(problem.model().sites(), options.rank, problem.scale(options.rank), {"A", "B"},
               problem.model().head()) {}

  const Level& level() const { return level_; }
  AdapterSet adapters(const torch::Tensor& rows) const {
    const std::array levels = {&level_};
    return compose(levels, std::array{rows});
  }
  // Of rows [G, P]: [G, P] and [G].
  torch::Tensor gradient(const Batch& batch, const torch::Tensor& rows) const {
    const std::array levels = {&level_};
    return split(levels, problem_.model().gradient(batch, adapters(rows), Keep::nothing).rows)[0];
  }
  torch::Tensor loss(const Batch& batch, const torch::Tensor& rows) const {
    return client_losses(problem_, batch, adapters(rows));
  }

 private:
  const Problem& problem_;
  Level level_;
};

// One row that torch's own AdamW moves.
class TorchAdamW {
 public:
  TorchAdamW(const torch::Tensor& start, const Options& options)
      : row_(start.clone().requires_grad_()),
        optimizer_(std::vector<torch::Tensor>{row_},
                   torch::optim::AdamWOptions(options.learning_rate).weight_decay(options.weight_decay)) {}
  void step(const torch::Tensor& gradient) {
    row_.mutable_grad() = gradient.clone();
    optimizer_.step();
  }
  torch::Tensor row() const { return row_.detach(); }

 private:
  torch::Tensor row_;
  torch::optim::AdamW optimizer_;
};

// Sites of two shapes in the upper of two layers: value [12, 12] and intermediate [20, 12].
inline SmallTransformer two_sites() {
  return {.targets = {"value", "intermediate"}, .layers = {1}};
}

}  // namespace pf2lora
