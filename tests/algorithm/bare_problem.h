// A problem with nothing around its model: no client, no example. Tests override what they need.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "model/problem.h"

namespace pf2lora {

class BareProblem : public Problem {
 public:
  double scale(int64_t rank) const override { return 4 / double(rank); }
  Batch training_batch(const std::vector<int64_t>&, Purpose, int64_t, int64_t, int64_t) const override {
    return {};
  }
  std::vector<Batch> evaluation_batches(const std::vector<int64_t>&, Split) const override { return {}; }
  int64_t train_examples(int64_t) const override { return 0; }
  double work(int64_t) const override { return 1; }
  const std::vector<std::string>& class_names() const override { return class_names_; }
  const Partition& partition() const override { return partition_; }
  std::vector<int64_t> class_counts(std::span<const int64_t>) const override { return {}; }
  int64_t prefix_bytes() const override { return 0; }
  double target_norm(int64_t) const override { return 0; }
  int64_t target_rank(int64_t) const override { return 0; }
  std::vector<std::pair<std::string, std::string>> provenance() const override { return {}; }

 protected:
  std::vector<std::string> class_names_;
  Partition partition_;
};

}  // namespace pf2lora
