#include "model/matrix_problem.h"

#include <torch/types.h>

#include "core/option_values.h"

namespace pf2lora {
namespace {

MatrixModel make_model(const Options& options) {
  const torch::Tensor targets =
      draw_matrix_targets(options.seed, options.clients, options.matrix_rows, options.matrix_columns,
                          parse_number_list("matrix-common-values", options.matrix_common_values),
                          parse_client_values("matrix-client-values", options.matrix_client_values));
  return {targets, observe_matrices(options.seed, targets, options.matrix_noise, options.matrix_samples)};
}

}  // namespace

MatrixProblem::MatrixProblem(const Options& options) : model_(make_model(options)) {
  partition_.clients.resize(size_t(options.clients));
}

Batch MatrixProblem::training_batch(const std::vector<int64_t>& clients, Purpose, int64_t, int64_t,
                                    int64_t) const {
  Batch batch;
  batch.clients = clients;
  return batch;
}

std::vector<Batch> MatrixProblem::evaluation_batches(const std::vector<int64_t>& clients, Split) const {
  return {training_batch(clients, Purpose::batch, 0, 0, 0)};
}

double MatrixProblem::target_norm(int64_t client) const {
  return model_.targets()[client].norm().item<double>();
}

int64_t MatrixProblem::target_rank(int64_t client) const {
  const auto values = torch::linalg_svdvals(model_.targets()[client]);
  return (values > 1e-10 * values[0]).sum().item<int64_t>();
}

}  // namespace pf2lora
