#include "algorithm/adapter_part.h"

#include <torch/torch.h>

namespace pf2lora {

AdapterPart::AdapterPart(Level level, Owner owner, Rule rule, const Options& options, ParameterLayout& common,
                         ParameterLayout& client)
    : level_(std::move(level)), owner_(owner), optimizer_(rule, level_.size(), options.weight_decay) {
  offset_ = (owner_ == Owner::common ? common : client).append(level_.layout());
  if (options.optimizer_state == "reset") return;
  const bool averaged = options.optimizer_state == "average" && owner_ == Owner::common;
  state_home_ = averaged ? StateHome::common : StateHome::client;
  const std::string prefix = "optimizer/" + level_.names()[0] + level_.names()[1] + "/";
  state_offset_ = (averaged ? common : client).append(optimizer_.state_layout(), prefix);
}

torch::Tensor AdapterPart::rows(const torch::Tensor& owner_rows) const {
  return owner_rows.narrow(1, offset_, level_.size());
}

torch::Tensor AdapterPart::rows(const ClientGroup& group) const {
  return rows(owner_ == Owner::common ? group.common : group.own);
}

void AdapterPart::initialise(torch::Tensor owner_row, KeyedRandom random) const {
  owner_row.zero_();
  level_.initialise(rows(owner_row.unsqueeze(0))[0], random);
}

torch::Tensor AdapterPart::state(const ClientGroup& group) const {
  const int64_t size = optimizer_.state_layout().size();
  switch (state_home_) {
    case StateHome::common:
      return group.common.narrow(1, state_offset_, size);
    case StateHome::client:
      return group.own.narrow(1, state_offset_, size);
    case StateHome::nowhere:
      break;
  }
  return group.common.new_zeros({group.common.size(0), size});
}

void AdapterPart::step(ClientGroup& group, const torch::Tensor& gradient, torch::Tensor state,
                       double rate) const {
  optimizer_.step(rows(group), gradient, state, rate);
}

Rule common_rule(const Options& options) {
  return options.optimizer == "sgd" ? Rule::sgd : Rule::adamw;
}

std::optional<HeadShape> head_of(Owner owner, const Options& options, const Problem& problem) {
  const Owner named = options.head == "personal" ? Owner::client : Owner::common;
  return named == owner ? problem.model().head() : std::nullopt;
}

}  // namespace pf2lora
