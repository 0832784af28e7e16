#include "simulation/spectra_table.h"

#include <torch/types.h>

#include "adapters/spectra.h"

namespace pf2lora {
namespace {

// The scaled pair of one site of the group's first client: down [r, in], up [out, r]; r is 0 where the level
// has no pairs.
LowRankPair scaled_pair(const LevelRows& part, size_t site) {
  const Level& level = *part.level;
  if (level.rank() == 0) {
    const Site& shape = level.sites()[site];
    return {part.rows.new_zeros({0, shape.columns}), part.rows.new_zeros({shape.rows, 0})};
  }
  return {level.down(part.rows, site)[0], level.scale() * level.up(part.rows, site)[0].to(torch::kFloat64)};
}

void append(std::vector<double>& values, const torch::Tensor& tensor) {
  values.insert(values.end(), tensor.data_ptr<double>(), tensor.data_ptr<double>() + tensor.numel());
}

}  // namespace

SpectraShape spectra_shape(const Algorithm& algorithm, const ClientGroup& group) {
  const Level& common = *algorithm.common_level(group).level;
  const Level& client = *algorithm.client_level(group).level;
  const bool adds = algorithm.combination() == Combination::adds;
  const int64_t pairs = adds ? common.rank() + client.rank() : client.rank();
  const bool dense = !algorithm.base_delta(group.common).empty();
  return {common.sites(), common.rank(), client.rank(),
          dense ? std::max(pairs, full_rank(common.sites())) : pairs};
}

std::vector<double> ClientSpectra::pack() const {
  std::vector<double> numbers = {double(client)};
  for (const auto* part : {&common, &own, &total, &overlap, &norm_ratio, &cosine})
    numbers.insert(numbers.end(), part->begin(), part->end());
  return numbers;
}

ClientSpectra ClientSpectra::unpack(std::span<const double> numbers, const SpectraShape& shape) {
  ClientSpectra spectra{.client = int64_t(numbers[0])};
  auto next = numbers.begin() + 1;
  const auto take = [&](std::vector<double>& part, int64_t columns) {
    const auto size = ptrdiff_t(shape.sites.size()) * columns;
    part.assign(next, next + size);
    next += size;
  };
  take(spectra.common, shape.common);
  take(spectra.own, shape.client);
  take(spectra.total, shape.total);
  take(spectra.overlap, 1);
  take(spectra.norm_ratio, 1);
  take(spectra.cosine, 1);
  return spectra;
}

ClientSpectra client_spectra(const Algorithm& algorithm, const ClientGroup& group) {
  const LevelRows common = algorithm.common_level(group), client = algorithm.client_level(group);
  const SpectraShape shape = spectra_shape(algorithm, group);
  const auto dense = algorithm.base_delta(group.common);
  const bool adds = algorithm.combination() == Combination::adds;
  ClientSpectra result{.client = group.clients[0]};
  for (size_t site = 0; site < common.level->sites().size(); ++site) {
    const LowRankPair ba = scaled_pair(common, site), dc = scaled_pair(client, site);
    const PairSpectra spectra =
        pair_spectra(ba.down, ba.up, dc.down, dc.up, dense.empty() ? torch::Tensor() : dense[site]);
    append(result.common, spectra.common.contiguous());
    append(result.own, spectra.client.contiguous());
    append(result.total, (adds ? spectra.total : spectra.client).contiguous());
    result.total.resize((site + 1) * size_t(shape.total), 0.0);
    result.overlap.push_back(spectra.overlap);
    result.norm_ratio.push_back(spectra.norm_ratio);
    result.cosine.push_back(spectra.cosine);
  }
  return result;
}

}  // namespace pf2lora
