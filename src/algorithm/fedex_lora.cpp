// FedEx-LoRA: A and B are averaged, and what the product of the averages lacks goes into a dense update:
//   base_delta <- base_delta + s (sum_k p_k B_k A_k - mean(B) mean(A)).
// Singhal et al., FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of Foundation Models,
// ACL 2025 (arXiv 2410.09432).
#include <torch/types.h>

#include "algorithm/base_delta.h"
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

using torch::Tensor;

class FedExLora final : public OneLevel {
 public:
  FedExLora(const Options& options, const Problem& problem)
      : OneLevel(options, problem, Owner::common), delta_(problem.model().sites(), common_layout_) {}

  // The averaged blocks with their weight, then the products.
  int64_t sum_size(int64_t round) const override {
    return OneLevel::sum_size(round) + products_size(common_.level());
  }
  void contribute(const ClientGroup& group, int64_t round, ExactSum& sum) const override {
    OneLevel::contribute(group, round, sum);
    add_products(common_.level(), common_.rows(group), size_t(OneLevel::sum_size(round)), sum);
  }
  void aggregate(Tensor common, int64_t round, const ExactSum& sum) const override {
    OneLevel::aggregate(common, round, sum);
    const Level& level = common_.level();
    const size_t averaged = size_t(OneLevel::sum_size(round));
    const auto products = mean_products(level, sum, averaged, sum.value(averaged - 1));
    const Tensor row = common_.rows(common.unsqueeze(0), {}).to(torch::kFloat64);
    const auto updates = delta_.updates(common.unsqueeze(0));
    for (size_t site = 0; site < products.size(); ++site)
      updates[site].add_(products[site] -
                         level.scale() * level.up(row, site)[0].matmul(level.down(row, site)[0]));
  }

  std::vector<Tensor> base_delta(const Tensor& common) const override { return delta_.updates(common); }

  // Beside the average, every client receives the dense update.
  ClientCost cost(const ClientGroup& group, size_t g, int64_t round) const override {
    ClientCost cost = OneLevel::cost(group, g, round);
    cost.received += delta_.block().size;
    return cost;
  }

 private:
  BaseDelta delta_;
};

}  // namespace

AlgorithmRow fedex_lora() {
  return {"fedex-lora", "A and B averaged, the rest of the average product in a dense update",
          [](const Options& options, const OptionSet*, const Problem& problem) -> std::unique_ptr<Algorithm> {
            return std::make_unique<FedExLora>(options, problem);
          }};
}

}  // namespace pf2lora
