#include "algorithm/client_ranks.h"

#include <torch/types.h>

#include <charconv>
#include <cmath>

#include "core/error.h"

namespace pf2lora {

void ClientRankOptions::visit(OptionVisitor& v) {
  v.option("min-rank", min_rank, "the lowest rank of a client's adapter; the highest is --rank", at_least(1));
  v.option("client-ranks", client_ranks,
           "the ranks that clients start with, repeated when there are more clients; empty: rising linearly "
           "from --min-rank to --rank",
           anything());
}

std::vector<int64_t> start_ranks(const Options& options, const ClientRankOptions& own) {
  const int64_t low = own.min_rank, high = options.rank;
  if (low > high)
    throw OptionError("--min-rank " + std::to_string(low) + " is above --rank " + std::to_string(high) +
                      "; choose --min-rank at most --rank");
  std::vector<int64_t> given;
  for (const std::string& text : own.client_ranks) {
    int64_t rank = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rank);
    if (error != std::errc() || end != text.data() + text.size() || rank < low || rank > high)
      throw OptionError("--client-ranks holds '" + text + "'; ranks are whole numbers from --min-rank " +
                        std::to_string(low) + " to --rank " + std::to_string(high));
    given.push_back(rank);
  }
  std::vector<int64_t> ranks;
  for (int64_t client = 0; client < options.clients; ++client) {
    const double place = options.clients > 1 ? double(client) / double(options.clients - 1) : 1;
    ranks.push_back(given.empty() ? low + std::llround(place * double(high - low))
                                  : given[size_t(client) % given.size()]);
  }
  return ranks;
}

torch::Tensor rank_mask(const Level& level, const torch::Tensor& ranks) {
  auto mask = torch::ones({ranks.size(0), level.size()}, ranks.options());
  const auto inside =
      torch::arange(level.rank(), ranks.options()).unsqueeze(0) < ranks.unsqueeze(1);  // [G, r]
  for (size_t site = 0; site < level.sites().size(); ++site) {
    level.down(mask, site).mul_(inside.unsqueeze(2));
    level.up(mask, site).mul_(inside.unsqueeze(1));
  }
  return mask;
}

int64_t size_at_rank(const Level& level, int64_t rank) {
  int64_t size = level.head_block().size;
  for (const Site& site : level.sites()) size += rank * (site.rows + site.columns);
  return size;
}

MixedRank::MixedRank(const Options& options, const Problem& problem)
    : OneLevel(options, problem, Owner::common),
      deployed_(common_.level().sites(), common_.level().rank(), common_.level().scale(),
                common_.level().names(), problem.model().head()) {}

AdapterSet MixedRank::personal_model(const ClientGroup& group) const {
  const std::array levels = {&common_.level(), &own_.level()};
  return compose(levels, std::array{truncated(group), own_.rows(group)});
}

std::optional<AdapterSet> MixedRank::common_model(const torch::Tensor& common) const {
  if (own_.has(Owner::client)) return std::nullopt;
  const std::array levels = {&common_.level()};
  return compose(levels, std::array{common_.rows(common, {})});
}

LevelRows MixedRank::client_level(const ClientGroup& group) const {
  const torch::Tensor rows = truncated(group);
  return {&deployed_, rows.size(1) == deployed_.size() ? rows : torch::cat({rows, own_.rows(group)}, 1)};
}

ClientCost MixedRank::cost(const ClientGroup& group, size_t g, int64_t round) const {
  ClientCost cost = OneLevel::cost(group, g, round);
  const int64_t whole = common_.level().size();
  const int64_t absent = whole - size_at_rank(common_.level(), cost.rank);
  int64_t moments = 0;  // of what is absent
  if (options_.optimizer_state != "reset")
    for (const torch::Tensor& state : common_.states(group)) moments += state.size(1) / whole * absent;
  const bool averaged = options_.optimizer_state == "average";
  cost.sent -= absent + (averaged ? moments : 0);
  cost.received -= absent + (averaged ? moments : 0);
  cost.trained -= absent;
  cost.kept -= averaged ? 0 : moments;
  return cost;
}

}  // namespace pf2lora
