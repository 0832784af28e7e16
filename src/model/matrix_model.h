// The matrix problem (algorithms.md of the PF2LoRA paper's synthetic example): client k fits a low-rank
// target,
//   f_k = 1/2 || up_k down_k - W*_k ||_F^2,
// with gradient and tangent in closed form. A batch names clients only; every gradient is the full one.
#pragma once
#include <vector>

#include "model/model.h"

namespace pf2lora {

class MatrixModel final : public Model {
 public:
  // targets [clients, rows, columns], double.
  explicit MatrixModel(torch::Tensor targets);

  const std::vector<Site>& sites() const override { return sites_; }
  std::optional<HeadShape> head() const override { return std::nullopt; }
  torch::TensorOptions options() const override { return targets_.options(); }
  int64_t frozen_parameters() const override { return 0; }

  Losses loss(const Batch& batch, const AdapterSet& adapters) const override;
  Gradient gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  AdapterSet tangent(GradientPass& pass, const AdapterSet& direction) const override;

  const torch::Tensor& targets() const { return targets_; }

 private:
  torch::Tensor residual(const Batch& batch, const LowRankPair& pair) const;  // [G, rows, columns]

  torch::Tensor targets_;
  std::vector<Site> sites_;
};

// Targets W*_k = sum of common singular values on bases that all clients share, plus the client's own values
// on directions orthogonal to those: [clients, rows, columns]. `client_values[k % size]` are client k's.
// Throws OptionError where the values do not fit into the shape.
torch::Tensor draw_matrix_targets(int64_t seed, int64_t clients, int64_t rows, int64_t columns,
                                  const std::vector<double>& common_values,
                                  const std::vector<std::vector<double>>& client_values);

}  // namespace pf2lora
