#include "algorithm/trained_level.h"

#include <torch/types.h>

#include "core/error.h"

namespace pf2lora {
namespace {

// The slices of a layout that stand in that block.
ParameterLayout slices_of(const ParameterLayout& layout, Block block) {
  ParameterLayout part;
  for (const Slice& slice : layout.slices())
    if (slice.offset >= block.offset && slice.offset + slice.size <= block.offset + block.size)
      part.add(slice.name, slice.shape);
  return part;
}

}  // namespace

TrainedLevel::TrainedLevel(Level level, std::vector<Share> shares, Rule rule, const Options& options,
                           ParameterLayout& common, ParameterLayout& client)
    : level_(std::move(level)), clip_(options.clip) {
  const std::string state_name = "optimizer/" + level_.names()[0] + level_.names()[1] + "/";
  for (const Share& share : shares) {
    Held held{share, RowOptimizer(rule, share.trained ? share.block.size : 0, options.weight_decay)};
    ParameterLayout& owner = share.owner == Owner::common ? common : client;
    held.offset = owner.append(slices_of(level_.layout(), share.block));
    if (options.optimizer_state != "reset") {
      const bool averaged = options.optimizer_state == "average" && share.owner == Owner::common;
      held.state_home = averaged ? StateHome::common : StateHome::client;
      const std::string name =
          shares.size() == 1 ? state_name : state_name + std::to_string(held_.size()) + "/";
      held.state_offset = (averaged ? common : client).append(held.optimizer.state_layout(), name);
    }
    held_.push_back(held);
  }
}

TrainedLevel::TrainedLevel(Level level, Owner owner, Rule rule, const Options& options,
                           ParameterLayout& common, ParameterLayout& client)
    : TrainedLevel(level, {Share{{0, level.size()}, owner}}, rule, options, common, client) {}

bool TrainedLevel::has(Owner owner) const {
  for (const Held& held : held_)
    if (held.share.owner == owner && held.share.block.size > 0) return true;
  return false;
}

torch::Tensor TrainedLevel::held_rows(const Held& held, const torch::Tensor& common,
                                      const torch::Tensor& own) {
  return (held.share.owner == Owner::common ? common : own).narrow(1, held.offset, held.share.block.size);
}

torch::Tensor TrainedLevel::rows(const torch::Tensor& common, const torch::Tensor& own) const {
  if (held_.size() == 1) return held_rows(held_.front(), common, own);
  std::vector<torch::Tensor> parts;
  for (const Held& held : held_) parts.push_back(held_rows(held, common, own));
  return torch::cat(parts, 1);
}

torch::Tensor TrainedLevel::rows(const ClientGroup& group) const {
  return rows(group.common, group.own);
}

void TrainedLevel::set_rows(ClientGroup& group, const torch::Tensor& rows) const {
  for (const Held& held : held_)
    held_rows(held, group.common, group.own)
        .copy_(rows.narrow(1, held.share.block.offset, held.share.block.size));
}

void TrainedLevel::initialise(Owner owner, torch::Tensor owner_row, KeyedRandom random) const {
  if (!has(owner)) return;
  const auto start = torch::zeros({level_.size()}, owner_row.options());
  level_.initialise(start, random);
  for (const Held& held : held_)
    if (held.share.owner == owner)
      owner_row.narrow(0, held.offset, held.share.block.size)
          .copy_(start.narrow(0, held.share.block.offset, held.share.block.size));
}

TrainedLevel::States TrainedLevel::states(const ClientGroup& group) const {
  States states;
  for (const Held& held : held_) {
    const int64_t size = held.optimizer.state_layout().size();
    if (held.state_home == StateHome::nowhere)
      states.push_back(group.common.new_zeros({group.common.size(0), size}));
    else
      states.push_back((held.state_home == StateHome::common ? group.common : group.own)
                           .narrow(1, held.state_offset, size));
  }
  return states;
}

void TrainedLevel::step(ClientGroup& group, const torch::Tensor& gradient, const States& states, double rate,
                        ShareSet which) const {
  std::vector<size_t> moving;
  std::vector<torch::Tensor> pieces;
  for (size_t i = 0; i < held_.size(); ++i) {
    const Share& share = held_[i].share;
    if (!which[i] || !share.trained) continue;
    moving.push_back(i);
    pieces.push_back(gradient.narrow(1, share.block.offset, share.block.size));
  }
  if (moving.empty()) return;
  torch::Tensor joined = pieces.size() == 1 ? pieces[0] : torch::cat(pieces, 1);
  clip_rows(joined, clip_);
  int64_t first = 0;
  for (size_t i : moving) {
    const Held& held = held_[i];
    held.optimizer.step(held_rows(held, group.common, group.own),
                        joined.narrow(1, first, held.share.block.size), states[i], rate);
    first += held.share.block.size;
  }
}

torch::Tensor TrainedLevel::response(const States& states, Block block, double rate) const {
  size_t i = 0;
  const auto holds = [&](const Block& share) {
    return block.offset >= share.offset && block.offset + block.size <= share.offset + share.size;
  };
  while (!holds(held_.at(i).share.block)) ++i;
  return held_[i].optimizer.response(states[i], {block.offset - held_[i].share.block.offset, block.size},
                                     rate);
}

std::vector<Block> TrainedLevel::common_blocks(ShareSet which) const {
  std::vector<Block> blocks;
  for (size_t i = 0; i < held_.size(); ++i) {
    const Held& held = held_[i];
    if (!which[i] || !held.share.trained || held.share.owner != Owner::common || held.share.block.size == 0)
      continue;
    blocks.push_back({held.offset, held.share.block.size});
    if (held.state_home == StateHome::common)
      blocks.push_back({held.state_offset, held.optimizer.state_layout().size()});
  }
  return blocks;
}

int64_t TrainedLevel::trained_size(ShareSet which) const {
  int64_t size = 0;
  for (size_t i = 0; i < held_.size(); ++i)
    if (which[i] && held_[i].share.trained) size += held_[i].share.block.size;
  return size;
}

Rule common_rule(const Options& options) {
  return options.optimizer == "sgd" ? Rule::sgd : Rule::adamw;
}

std::optional<HeadShape> head_of(Owner owner, const Options& options, const Problem& problem) {
  const Owner named = options.head == "personal" ? Owner::client : Owner::common;
  if (named == Owner::client && problem.task() == Task::generation)
    throw OptionError("--head personal, which fedper and fedrep set, is a head of each client's own, and a "
                      "generation has none; leave it out, or take another --algorithm");
  return named == owner ? problem.model().head() : std::nullopt;
}

}  // namespace pf2lora
