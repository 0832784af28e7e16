#include "adapters/level.h"

#include <cmath>

#include "core/random.h"

namespace pf2lora {

Level::Level(std::vector<Site> sites, int64_t rank, double scale, std::array<std::string, 2> names,
             std::optional<HeadShape> head)
    : sites_(std::move(sites)), rank_(rank), scale_(scale), names_(std::move(names)), head_(head) {
  if (rank_ > 0)
    for (const Site& site : sites_) {
      layout_.add(site.name + "/" + names_[0], {rank_, site.columns});
      layout_.add(site.name + "/" + names_[1], {site.rows, rank_});
    }
  if (head_) {
    layout_.add("head/weight", {head_->classes, head_->inputs});
    layout_.add("head/bias", {head_->classes});
  }
}

torch::Tensor Level::down(const torch::Tensor& rows, size_t site) const {
  return view(rows, layout_.slices()[2 * site]);
}

torch::Tensor Level::up(const torch::Tensor& rows, size_t site) const {
  return view(rows, layout_.slices()[2 * site + 1]);
}

void Level::initialise(torch::Tensor row, KeyedRandom& random) const {
  row.zero_();
  const auto fill = [&](const Slice& slice, auto draw) {
    auto values = torch::empty({slice.size}, torch::kFloat64);
    for (double& value : std::span(values.data_ptr<double>(), slice.size)) value = draw();
    row.narrow(0, slice.offset, slice.size).copy_(values);
  };
  if (rank_ > 0)
    for (size_t i = 0; i < sites_.size(); ++i) {
      const double bound = 1 / std::sqrt(double(sites_[i].columns));
      fill(layout_.slices()[2 * i], [&] { return random.uniform(-bound, bound); });
    }
  if (head_) fill(layout_.find("head/weight"), [&] { return 0.02 * random.normal(); });
}

AdapterSet compose(std::span<const Level* const> levels, std::span<const torch::Tensor> rows) {
  AdapterSet set;
  set.pairs.resize(levels.front()->sites().size());
  for (size_t site = 0; site < set.pairs.size(); ++site) {
    std::vector<torch::Tensor> downs, ups;
    for (size_t i = 0; i < levels.size(); ++i) {
      if (levels[i]->rank() == 0) continue;
      downs.push_back(levels[i]->down(rows[i], site));
      ups.push_back(levels[i]->scale() * levels[i]->up(rows[i], site));
    }
    if (downs.empty()) continue;
    set.pairs[site] = downs.size() == 1 ? LowRankPair{downs[0], ups[0]}
                                        : LowRankPair{torch::cat(downs, 1), torch::cat(ups, 2)};
  }
  for (size_t i = 0; i < levels.size(); ++i)
    if (levels[i]->has_head()) {
      set.head_weight = view(rows[i], levels[i]->layout().find("head/weight"));
      set.head_bias = view(rows[i], levels[i]->layout().find("head/bias"));
    }
  return set;
}

std::vector<torch::Tensor> split(std::span<const Level* const> levels, const AdapterSet& gradient) {
  std::vector<torch::Tensor> rows;
  int64_t first = 0;  // of this level's ranks in the concatenated pair
  for (const Level* level : levels) {
    std::vector<torch::Tensor> pieces;
    const auto keep = [&](const torch::Tensor& piece) { pieces.push_back(piece.flatten(1)); };
    if (level->rank() > 0)
      for (const LowRankPair& pair : gradient.pairs) {
        keep(pair.down.narrow(1, first, level->rank()));
        keep(level->scale() * pair.up.narrow(2, first, level->rank()));
      }
    if (level->has_head()) {
      keep(gradient.head_weight);
      keep(gradient.head_bias);
    }
    first += level->rank();
    const torch::Tensor any = gradient.tensors().front();
    rows.push_back(pieces.empty() ? any.new_zeros({any.size(0), 0}) : torch::cat(pieces, 1));
  }
  return rows;
}

}  // namespace pf2lora
