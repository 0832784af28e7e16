// The matrix problem, the synthetic example of the PF2LoRA paper: client k fits a low-rank target,
//   f_k = 1/2 || up_k down_k + dense - W*_k ||_F^2,
// with gradient and tangent in closed form. A batch names clients only; every gradient is the full one. What
// training sees may be less than the target, which loss() always measures against.
#pragma once
#include <vector>

#include "model/model.h"

namespace pf2lora {

// What training sees of the targets: Y_k = W*_k + noise in place of W*_k, or, where there are inputs,
//   f_k = 1/(2 n) || (up_k down_k + dense) X_k - Y_k ||_F^2,  Y_k = W*_k X_k + noise.
struct MatrixObservations {
  torch::Tensor inputs;   // X [clients, columns, n], undefined: the matrix itself is observed
  torch::Tensor outputs;  // Y [clients, rows, columns or n]
};

class MatrixModel final : public Model {
 public:
  // targets [clients, rows, columns], double; without observations training sees the targets themselves.
  explicit MatrixModel(torch::Tensor targets);
  MatrixModel(torch::Tensor targets, MatrixObservations observed);

  const std::vector<Site>& sites() const override { return sites_; }
  std::optional<HeadShape> head() const override { return std::nullopt; }
  std::optional<int64_t> feature_width() const override { return std::nullopt; }
  torch::TensorOptions options() const override { return targets_.options(); }
  std::optional<PromptRoom> prompt_room() const override { return std::nullopt; }
  int64_t frozen_parameters() const override { return 0; }
  std::string backend() const override { return "reference " + precision_name(options()); }

  Losses loss(const Batch& batch, const AdapterSet& adapters) const override;
  Gradient gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  AdapterSet tangent(GradientPass& pass, const AdapterSet& direction) const override;
  Output output(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  OutputLoss output_loss(const Batch& batch, const torch::Tensor& output) const override;
  AdapterSet pullback(OutputPass& pass, const torch::Tensor& cotangent) const override;
  // Throws OptionError: there are no examples.
  torch::Tensor features(const Batch& batch) const override;

  const torch::Tensor& targets() const { return targets_; }

 private:
  // The training loss [G] of these matrices [G, rows, columns], and its derivative.
  struct Fit {
    torch::Tensor loss, derivative;
  };
  Fit fit(const Batch& batch, const torch::Tensor& product) const;

  torch::Tensor targets_;
  MatrixObservations observed_;
  std::vector<Site> sites_;
};

// Observations with independent normal noise of that deviation, at `samples` standard normal inputs a client;
// 0: of the matrix itself.
MatrixObservations observe_matrices(int64_t seed, const torch::Tensor& targets, double noise,
                                    int64_t samples);

// Targets W*_k = sum of common singular values on bases that all clients share, plus the client's own values
// on directions orthogonal to those: [clients, rows, columns]. `client_values[k % size]` are client k's.
// Throws OptionError where the values do not fit into the shape.
torch::Tensor draw_matrix_targets(int64_t seed, int64_t clients, int64_t rows, int64_t columns,
                                  const std::vector<double>& common_values,
                                  const std::vector<std::vector<double>>& client_values);

}  // namespace pf2lora
