// Text classification: a frozen encoder, a tokenised dataset and its partition over clients.
#pragma once
#include "model/problem.h"

namespace pf2lora {

class TextProblem final : public Problem {
 public:
  TextProblem(const Options& options, const Demands& demands, int64_t local_rank);

  const Model& model() const override { return *model_; }
  void pack_weights(const FilledMemory& memory) override { model_->pack_weights(memory); }
  double scale(int64_t rank) const override { return options_.lora_alpha / double(rank); }
  Batch training_batch(const std::vector<int64_t>& clients, Purpose purpose, int64_t round, int64_t step,
                       int64_t slot) const override;
  std::vector<Batch> evaluation_batches(const std::vector<int64_t>& clients, Split split) const override;
  std::vector<Batch> batches_of(const std::vector<int64_t>& clients,
                                std::vector<std::vector<int64_t>> rows) const override;
  int64_t train_examples(int64_t client) const override { return int64_t(training_rows(client).size()); }
  double work(int64_t client) const override;
  std::optional<Task> task() const override { return dataset_.task; }
  const TokenDataset* dataset() const override { return &dataset_; }
  const Start& start() const override { return start_; }
  int64_t units(std::span<const int64_t> rows) const override;
  const std::vector<std::string>& class_names() const override { return dataset_.class_names; }
  const Partition& partition() const override { return partition_; }
  std::vector<int64_t> class_counts(std::span<const int64_t> rows) const override {
    return pf2lora::class_counts(rows, partition_.labels, int64_t(dataset_.class_names.size()));
  }
  int64_t prefix_bytes() const override;
  double target_norm(int64_t) const override { return 0; }
  int64_t target_rank(int64_t) const override { return 0; }
  std::vector<std::pair<std::string, std::string>> provenance() const override;

 private:
  const std::vector<int64_t>& training_rows(int64_t client) const;
  ExampleColumns columns() const;

  Options options_;
  TokenDataset dataset_;
  Partition partition_;
  std::vector<int64_t> pooled_rows_;  // of all clients, where training is pooled
  std::unique_ptr<Model> model_;
  Start start_;  // of --start-adapter
};

}  // namespace pf2lora
