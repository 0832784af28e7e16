#include "adapters/level.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"

namespace pf2lora {
namespace {

torch::Tensor joined(const std::vector<torch::Tensor>& parts, int64_t dimension) {
  return parts.size() == 1 ? parts[0] : torch::cat(parts, dimension);
}

bool has_prefix(const Level& level, size_t layer) {
  return level.prompts() && layer < size_t(level.prompts()->layers);
}

}  // namespace

Level::Level(std::vector<Site> sites, int64_t rank, double scale, std::array<std::string, 2> names,
             std::optional<HeadShape> head, std::optional<PromptShape> prompts)
    : sites_(std::move(sites)),
      rank_(rank),
      scale_(scale),
      names_(std::move(names)),
      head_(head),
      prompts_(prompts && prompts->vectors > 0 ? prompts : std::nullopt) {
  const auto block = [&](auto add) {
    const int64_t offset = layout_.size();
    add();
    return Block{offset, layout_.size() - offset};
  };
  down_block_ = block([&] {
    if (rank_ > 0)
      for (const Site& site : sites_) layout_.add(site.name + "/" + names_[0], {rank_, site.columns});
  });
  up_block_ = block([&] {
    if (rank_ > 0)
      for (const Site& site : sites_) layout_.add(site.name + "/" + names_[1], {site.rows, rank_});
  });
  first_prompt_ = layout_.slices().size();
  prompt_block_ = block([&] {
    if (!prompts_) return;
    if (prompts_->layers == 0) layout_.add("prompt", {prompts_->vectors, prompts_->width});
    for (int64_t layer = 0; layer < prompts_->layers; ++layer)
      for (const char* part : {"/key", "/value"})
        layout_.add("prefix/" + std::to_string(layer) + part, {prompts_->vectors, prompts_->width});
  });
  head_block_ = block([&] {
    if (!head_) return;
    if (head_->dense > 0) {
      layout_.add("head/dense/weight", {head_->dense, head_->inputs});
      layout_.add("head/dense/bias", {head_->dense});
    }
    layout_.add("head/weight", {head_->classes, head_->dense > 0 ? head_->dense : head_->inputs});
    layout_.add("head/bias", {head_->classes});
  });
}

torch::Tensor Level::down(const torch::Tensor& rows, size_t site) const {
  return view(rows, layout_.slices()[site]);
}

torch::Tensor Level::up(const torch::Tensor& rows, size_t site) const {
  return view(rows, layout_.slices()[sites_.size() + site]);
}

torch::Tensor Level::prompt(const torch::Tensor& rows) const {
  return view(rows, layout_.slices()[first_prompt_]);
}

KeyValuePrefix Level::prefix(const torch::Tensor& rows, int64_t layer) const {
  const size_t slice = first_prompt_ + 2 * size_t(layer);
  return {view(rows, layout_.slices()[slice]), view(rows, layout_.slices()[slice + 1])};
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
      fill(layout_.slices()[i], [&] { return random.uniform(-bound, bound); });
    }
  const auto small = [&] { return 0.02 * random.normal(); };
  if (prompts_)
    for (size_t i = 0; i < size_t(std::max<int64_t>(1, 2 * prompts_->layers)); ++i)
      fill(layout_.slices()[first_prompt_ + i], small);
  if (has_dense_head()) fill(layout_.find("head/dense/weight"), small);
  if (head_) fill(layout_.find("head/weight"), small);
}

AdapterSet compose(std::span<const Level* const> levels, std::span<const torch::Tensor> rows) {
  AdapterSet set;
  size_t sites = 0, layers = 0;
  for (const Level* level : levels) {
    sites = std::max(sites, level->sites().size());
    if (level->prompts()) layers = std::max(layers, size_t(level->prompts()->layers));
  }
  set.pairs.resize(sites);
  for (size_t site = 0; site < sites; ++site) {
    std::vector<torch::Tensor> downs, ups;
    for (size_t i = 0; i < levels.size(); ++i) {
      if (levels[i]->rank() == 0) continue;
      downs.push_back(levels[i]->down(rows[i], site));
      ups.push_back(levels[i]->scale() * levels[i]->up(rows[i], site));
    }
    if (!downs.empty()) set.pairs[site] = {joined(downs, 1), joined(ups, 2)};
  }
  std::vector<torch::Tensor> prompts;
  for (size_t i = 0; i < levels.size(); ++i)
    if (levels[i]->prompts() && levels[i]->prompts()->layers == 0)
      prompts.push_back(levels[i]->prompt(rows[i]));
  if (!prompts.empty()) set.prompt = joined(prompts, 1);
  set.prefix.resize(layers);
  for (size_t layer = 0; layer < layers; ++layer) {
    std::vector<torch::Tensor> keys, values;
    for (size_t i = 0; i < levels.size(); ++i) {
      if (!has_prefix(*levels[i], layer)) continue;
      const KeyValuePrefix prefix = levels[i]->prefix(rows[i], int64_t(layer));
      keys.push_back(prefix.key);
      values.push_back(prefix.value);
    }
    set.prefix[layer] = {joined(keys, 1), joined(values, 1)};
  }
  for (size_t i = 0; i < levels.size(); ++i) {
    if (!levels[i]->has_head()) continue;
    const auto part = [&](const std::string& name) {
      return view(rows[i], levels[i]->layout().find("head/" + name));
    };
    set.head_weight = part("weight");
    set.head_bias = part("bias");
    if (!levels[i]->has_dense_head()) continue;
    set.head_dense_weight = part("dense/weight");
    set.head_dense_bias = part("dense/bias");
  }
  return set;
}

std::vector<torch::Tensor> split(std::span<const Level* const> levels, const AdapterSet& gradient) {
  std::vector<torch::Tensor> rows;
  // Where this level's part of what is concatenated begins: ranks, vectors of the prompt and of each prefix.
  int64_t first_rank = 0, first_vector = 0;
  std::vector<int64_t> first_of_layer(gradient.prefix.size(), 0);
  for (const Level* level : levels) {
    std::vector<torch::Tensor> pieces;
    const auto keep = [&](const torch::Tensor& piece) { pieces.push_back(piece.flatten(1)); };
    if (const int64_t rank = level->rank(); rank > 0) {
      for (const LowRankPair& pair : gradient.pairs) keep(pair.down.narrow(1, first_rank, rank));
      for (const LowRankPair& pair : gradient.pairs)
        keep(level->scale() * pair.up.narrow(2, first_rank, rank));
      first_rank += rank;
    }
    if (const auto& prompts = level->prompts()) {
      if (prompts->layers == 0) {
        keep(gradient.prompt.narrow(1, first_vector, prompts->vectors));
        first_vector += prompts->vectors;
      }
      for (size_t layer = 0; layer < size_t(prompts->layers); ++layer) {
        keep(gradient.prefix[layer].key.narrow(1, first_of_layer[layer], prompts->vectors));
        keep(gradient.prefix[layer].value.narrow(1, first_of_layer[layer], prompts->vectors));
        first_of_layer[layer] += prompts->vectors;
      }
    }
    if (level->has_dense_head()) {
      keep(gradient.head_dense_weight);
      keep(gradient.head_dense_bias);
    }
    if (level->has_head()) {
      keep(gradient.head_weight);
      keep(gradient.head_bias);
    }
    const torch::Tensor any = gradient.tensors().front();
    rows.push_back(pieces.empty() ? any.new_zeros({any.size(0), 0}) : torch::cat(pieces, 1));
  }
  return rows;
}

}  // namespace pf2lora
