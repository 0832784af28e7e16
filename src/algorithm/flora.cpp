// FLoRA: the clients' pairs are stacked, so that their average is exact: W_0 + base_delta with
//   base_delta <- base_delta + sum_k p_k s B_k A_k,
// and every round starts from a fresh pair. The head is averaged.
// Wang et al., FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations,
// NeurIPS 2024 (arXiv 2409.05976).
#include <torch/types.h>

#include "algorithm/base_delta.h"
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

using torch::Tensor;

class Flora final : public OneLevel {
 public:
  Flora(const Options& options, const Problem& problem)
      : OneLevel(options, problem, Owner::common), delta_(problem.model().sites(), common_layout_) {}

  int64_t sum_size(int64_t) const override { return product_sum_size(common_.level()); }
  void contribute(const ClientGroup& group, int64_t, ExactSum& sum) const override {
    add_head_and_products(common_.level(), common_.rows(group), sum);
  }
  void aggregate(Tensor common, int64_t round, const ExactSum& sum) const override {
    const Level& level = common_.level();
    const ProductAverage average = product_average(level, sum);
    const auto updates = delta_.updates(common.unsqueeze(0));
    for (size_t site = 0; site < updates.size(); ++site) updates[site].add_(average.products[site]);
    common_.initialise(Owner::common, common,
                       KeyedRandom(uint64_t(options_.seed), Purpose::common_initial, 0, round));
    common_.rows(common.unsqueeze(0), {})[0]
        .narrow(0, level.head_block().offset, level.head_block().size)
        .copy_(average.head);
  }

  std::vector<Tensor> base_delta(const Tensor& common) const override { return delta_.updates(common); }

  // Every client receives the pairs of all, stacked, and the average head.
  ClientCost cost(const ClientGroup& group, size_t g, int64_t round) const override {
    ClientCost cost = OneLevel::cost(group, g, round);
    const int64_t head = common_.level().head_block().size;
    const int64_t trained = options_.clients - options_.held_out_clients;
    const int64_t cohort =
        options_.clients_per_round == 0 ? trained : std::min(options_.clients_per_round, trained);
    cost.received = cohort * (cost.sent - head) + head;
    return cost;
  }

 private:
  BaseDelta delta_;
};

}  // namespace

AlgorithmRow flora() {
  return {"flora", "pairs of all clients stacked into an exact dense update, fresh pairs each round",
          [](const Options& options, const OptionSet*, const Problem& problem) -> std::unique_ptr<Algorithm> {
            Options fresh = options;
            fresh.optimizer_state = "reset";  // moments of a pair that is gone mean nothing
            return std::make_unique<Flora>(fresh, problem);
          }};
}

}  // namespace pf2lora
