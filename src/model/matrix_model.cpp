#include "model/matrix_model.h"

#include <torch/torch.h>

#include "core/error.h"
#include "core/random.h"

namespace pf2lora {
namespace {

using torch::Tensor;

struct MatrixPass final : GradientPass {
  LowRankPair pair;
  Tensor residual;
};

Tensor transposed(const Tensor& x) {
  return x.transpose(-1, -2);
}

// Columns [size, count] that are orthonormal and orthogonal to the columns of `others` [size, ...].
Tensor orthonormal(const Tensor& others, int64_t count, KeyedRandom& random) {
  Tensor columns = torch::empty({others.size(0), count}, torch::kFloat64);
  for (double& value : std::span(columns.data_ptr<double>(), size_t(columns.numel())))
    value = random.normal();
  const Tensor basis = std::get<0>(torch::linalg_qr(torch::cat({others, columns}, 1), "reduced"));
  return basis.narrow(1, others.size(1), count);
}

}  // namespace

MatrixModel::MatrixModel(Tensor targets)
    : targets_(std::move(targets)), sites_{{"matrix", "matrix", 0, targets_.size(1), targets_.size(2)}} {}

Tensor MatrixModel::residual(const Batch& batch, const LowRankPair& pair) const {
  const Tensor targets = targets_.index_select(0, torch::tensor(batch.clients, torch::kInt64));
  return torch::bmm(pair.up, pair.down) - targets;
}

Losses MatrixModel::loss(const Batch& batch, const AdapterSet& adapters) const {
  return {0.5 * residual(batch, adapters.pairs[0]).square().sum({1, 2}), {}};
}

Gradient MatrixModel::gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  const LowRankPair& pair = adapters.pairs[0];
  const Tensor e = residual(batch, pair);
  Gradient result{
      0.5 * e.square().sum({1, 2}),
      adapters.with_tensors({torch::bmm(transposed(pair.up), e), torch::bmm(e, transposed(pair.down))}),
      nullptr};
  if (keep == Keep::pass) {
    auto pass = std::make_unique<MatrixPass>();
    pass->pair = {pair.down.clone(), pair.up.clone()};
    pass->residual = e;
    result.pass = std::move(pass);
  }
  return result;
}

AdapterSet MatrixModel::tangent(GradientPass& pass, const AdapterSet& direction) const {
  const auto& [pair, e] = dynamic_cast<MatrixPass&>(pass);
  const LowRankPair& move = direction.pairs[0];
  const Tensor de = torch::bmm(move.up, pair.down) + torch::bmm(pair.up, move.down);
  return direction.with_tensors(
      {torch::bmm(transposed(move.up), e) + torch::bmm(transposed(pair.up), de),
       torch::bmm(de, transposed(pair.down)) + torch::bmm(e, transposed(move.down))});
}

Tensor draw_matrix_targets(int64_t seed, int64_t clients, int64_t rows, int64_t columns,
                           const std::vector<double>& common_values,
                           const std::vector<std::vector<double>>& client_values) {
  const auto common_count = int64_t(common_values.size());
  for (const auto& values : client_values)
    if (common_count + int64_t(values.size()) > std::min(rows, columns))
      throw OptionError("a target of rank " + std::to_string(common_count + int64_t(values.size())) +
                        " does not fit into " + std::to_string(rows) + " x " + std::to_string(columns) +
                        "; give fewer --matrix-common-values or --matrix-client-values, or a larger matrix");
  const auto draw = [&](KeyedRandom random, const Tensor& left_of, const Tensor& right_of,
                        const std::vector<double>& values) {
    const auto count = int64_t(values.size());
    const Tensor left = orthonormal(left_of, count, random), right = orthonormal(right_of, count, random);
    return std::tuple{left, right,
                      left.mm(torch::diag(torch::tensor(values, torch::kFloat64))).mm(right.t())};
  };
  const auto [left, right, common] =
      draw(KeyedRandom(uint64_t(seed), Purpose::matrix_problem), torch::empty({rows, 0}, torch::kFloat64),
           torch::empty({columns, 0}, torch::kFloat64), common_values);
  std::vector<Tensor> targets;
  for (int64_t k = 0; k < clients; ++k) {
    const auto& values = client_values[size_t(k) % client_values.size()];
    targets.push_back(common + std::get<2>(draw(KeyedRandom(uint64_t(seed), Purpose::matrix_problem, k, 1),
                                                left, right, values)));
  }
  return torch::stack(targets);
}

}  // namespace pf2lora
