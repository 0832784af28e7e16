#include "model/matrix_model.h"

#include <torch/types.h>

#include "core/error.h"
#include "core/random.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// up W down + dense of one client each, W the diagonal of the rank weights.
struct MatrixPass final : GradientPass, OutputPass {
  AdapterSet adapters;  // the structure
  LowRankPair pair;     // copies, W down for down
  Tensor weights;       // [G, R, 1], undefined: all 1
  Tensor derivative;    // [G, rows, columns] of the loss by the matrix, of a gradient alone
  Tensor inputs;        // [G, columns, n] that the loss was taken at, undefined: the matrix itself
};

Tensor transposed(const Tensor& x) {
  return x.transpose(-1, -2);
}

Tensor weighted(const Tensor& weights, const Tensor& down) {
  return weights.defined() ? weights * down : down;
}

MatrixPass pass_at(const AdapterSet& adapters) {
  if (adapters.prompt.defined() || !adapters.prefix.empty())
    throw OptionError(
        "prompts need tokens, and the matrix problem has none; choose another algorithm or --problem "
        "transformer");
  MatrixPass pass;
  pass.adapters = adapters;
  if (adapters.rank_weights.defined()) pass.weights = adapters.rank_weights.unsqueeze(2);
  if (!adapters.pairs.empty() && adapters.pairs[0].defined())
    pass.pair = {weighted(pass.weights, adapters.pairs[0].down), adapters.pairs[0].up};
  return pass;
}

// [G, rows, columns]
Tensor product(const MatrixPass& pass, const Tensor& shape) {
  Tensor sum = pass.pair.defined() ? torch::bmm(pass.pair.up, pass.pair.down) : torch::zeros_like(shape);
  if (!pass.adapters.dense.empty() && pass.adapters.dense[0].defined()) sum = sum + pass.adapters.dense[0];
  return sum;
}

// d <product, e> / d adapters
AdapterSet adjoint(const MatrixPass& pass, const Tensor& e) {
  if (!pass.pair.defined()) return pass.adapters;
  return pass.adapters.with_tensors({weighted(pass.weights, torch::bmm(transposed(pass.pair.up), e)),
                                     torch::bmm(e, transposed(pass.pair.down))});
}

std::unique_ptr<MatrixPass> kept(const MatrixPass& pass) {
  auto copy = std::make_unique<MatrixPass>(pass);
  if (pass.pair.defined()) copy->pair = {pass.pair.down.clone(), pass.pair.up.clone()};
  return copy;
}

// Columns [size, count] that are orthonormal and orthogonal to the columns of `others` [size, ...].
Tensor orthonormal(const Tensor& others, int64_t count, KeyedRandom& random) {
  Tensor columns = torch::empty({others.size(0), count}, torch::kFloat64);
  for (double& value : std::span(columns.data_ptr<double>(), size_t(columns.numel())))
    value = random.normal();
  const Tensor basis = std::get<0>(torch::linalg_qr(torch::cat({others, columns}, 1), "reduced"));
  return basis.narrow(1, others.size(1), count);
}

// Rows of a tensor [clients, ...] for the batch's clients.
Tensor of_batch(const Batch& batch, const Tensor& all) {
  return all.index_select(0, torch::tensor(batch.clients, torch::kInt64));
}

}  // namespace

MatrixModel::MatrixModel(Tensor targets) : MatrixModel(targets, MatrixObservations{{}, targets}) {}

MatrixModel::MatrixModel(Tensor targets, MatrixObservations observed)
    : targets_(std::move(targets)),
      observed_(std::move(observed)),
      sites_{{"matrix", "matrix", 0, targets_.size(1), targets_.size(2)}} {}

MatrixModel::Fit MatrixModel::fit(const Batch& batch, const Tensor& product) const {
  const Tensor outputs = of_batch(batch, observed_.outputs);
  if (!observed_.inputs.defined()) {
    const Tensor residual = product - outputs;
    return {0.5 * residual.square().sum({1, 2}), residual};
  }
  const Tensor inputs = of_batch(batch, observed_.inputs);
  const double n = double(inputs.size(2));
  const Tensor residual = torch::bmm(product, inputs) - outputs;
  return {residual.square().sum({1, 2}) / (2 * n), torch::bmm(residual, transposed(inputs)) / n};
}

Losses MatrixModel::loss(const Batch& batch, const AdapterSet& adapters) const {
  const Tensor targets = of_batch(batch, targets_);
  return {0.5 * (product(pass_at(adapters), targets) - targets).square().sum({1, 2})};
}

Gradient MatrixModel::gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  MatrixPass pass = pass_at(adapters);
  const Fit found = fit(batch, product(pass, of_batch(batch, targets_)));
  pass.derivative = found.derivative;
  if (observed_.inputs.defined()) pass.inputs = of_batch(batch, observed_.inputs);
  return {found.loss, adjoint(pass, pass.derivative), keep == Keep::pass ? kept(pass) : nullptr};
}

AdapterSet MatrixModel::tangent(GradientPass& pass, const AdapterSet& direction) const {
  const auto& at = dynamic_cast<MatrixPass&>(pass);
  if (!at.pair.defined()) return direction;
  const Tensor down = weighted(at.weights, direction.pairs[0].down);
  const Tensor& up = direction.pairs[0].up;
  Tensor de = torch::bmm(up, at.pair.down) + torch::bmm(at.pair.up, down);  // of the derivative
  if (at.inputs.defined())
    de = torch::bmm(torch::bmm(de, at.inputs), transposed(at.inputs)) / double(at.inputs.size(2));
  const Tensor of_down = torch::bmm(transposed(up), at.derivative) + torch::bmm(transposed(at.pair.up), de);
  return direction.with_tensors(
      {weighted(at.weights, of_down),
       torch::bmm(de, transposed(at.pair.down)) + torch::bmm(at.derivative, transposed(down))});
}

Output MatrixModel::output(const Batch& batch, const AdapterSet& adapters, Keep keep) const {
  const MatrixPass pass = pass_at(adapters);
  return {product(pass, of_batch(batch, targets_)).flatten(1), {}, keep == Keep::pass ? kept(pass) : nullptr};
}

OutputLoss MatrixModel::output_loss(const Batch& batch, const Tensor& output) const {
  const Tensor matrices = output.view({-1, targets_.size(1), targets_.size(2)});
  const Fit found = fit(batch, matrices);
  const Tensor errors = 0.5 * (matrices - of_batch(batch, targets_)).square().sum({1, 2});
  return {{errors, {}}, found.loss, found.derivative.flatten(1)};
}

AdapterSet MatrixModel::pullback(OutputPass& pass, const Tensor& cotangent) const {
  return adjoint(dynamic_cast<MatrixPass&>(pass), cotangent.view({-1, targets_.size(1), targets_.size(2)}));
}

Tensor MatrixModel::features(const Batch&) const {
  throw OptionError(
      "the matrix problem has no examples whose features could be read; choose another algorithm or "
      "--problem "
      "transformer");
}

MatrixObservations observe_matrices(int64_t seed, const Tensor& targets, double noise, int64_t samples) {
  enum { kInputs = 2, kNoise = 3 };  // rounds of the key
  const auto normal = [&](int64_t what, at::IntArrayRef shape) {
    std::vector<Tensor> all;
    for (int64_t k = 0; k < targets.size(0); ++k) {
      KeyedRandom random(uint64_t(seed), Purpose::matrix_problem, k, what);
      all.push_back(torch::empty(shape, torch::kFloat64));
      for (double& value : std::span(all.back().data_ptr<double>(), size_t(all.back().numel())))
        value = random.normal();
    }
    return torch::stack(all);
  };
  MatrixObservations observed{{}, targets};
  if (samples > 0) {
    observed.inputs = normal(kInputs, {targets.size(2), samples});
    observed.outputs = torch::bmm(targets, observed.inputs);
  }
  if (noise > 0)
    observed.outputs =
        observed.outputs + noise * normal(kNoise, {observed.outputs.size(1), observed.outputs.size(2)});
  return observed;
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
