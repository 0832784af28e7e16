// The synthetic problem: every client fits a low-rank matrix of its own (matrix_model.h).
#pragma once
#include "model/matrix_model.h"
#include "model/problem.h"

namespace pf2lora {

class MatrixProblem final : public Problem {
 public:
  explicit MatrixProblem(const Options& options);

  const Model& model() const override { return model_; }
  double scale(int64_t) const override { return 1; }
  Batch training_batch(const std::vector<int64_t>& clients, Purpose, int64_t, int64_t,
                       int64_t) const override;
  std::vector<Batch> evaluation_batches(const std::vector<int64_t>& clients, Split split) const override;
  int64_t train_examples(int64_t) const override { return 1; }
  double work(int64_t) const override { return 1; }
  std::optional<Task> task() const override { return std::nullopt; }
  const std::vector<std::string>& class_names() const override { return no_names_; }
  const Partition& partition() const override { return partition_; }
  std::vector<int64_t> class_counts(std::span<const int64_t>) const override { return {}; }
  int64_t prefix_bytes() const override { return 0; }
  double target_norm(int64_t client) const override;
  int64_t target_rank(int64_t client) const override;
  std::vector<std::pair<std::string, std::string>> provenance() const override { return {}; }

 private:
  MatrixModel model_;
  Partition partition_;
  std::vector<std::string> no_names_;
};

}  // namespace pf2lora
