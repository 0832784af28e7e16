// FlexLoRA: clients of different rank r_k train truncations of one adapter; the average of their products,
//   P = sum_k p_k s B_k A_k = U S V^T,
// is formed densely, and its truncated singular value decomposition gives each client its next pair:
// s B = U sqrt(S) s, A = sqrt(S) V^T / s at rank r_k, the largest entry of each column of U positive.
// Bai et al., Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources,
// NeurIPS 2024 (arXiv 2402.11505).
#include <torch/types.h>

#include "algorithm/base_delta.h"
#include "algorithm/client_ranks.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

using torch::Tensor;

class FlexLora final : public MixedRank {
 public:
  FlexLora(const Options& options, const ClientRankOptions& own, const Problem& problem)
      : MixedRank(options, problem), ranks_(start_ranks(options, own)) {}

  LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const override {
    common_.set_rows(group, truncated(group));
    return OneLevel::local_steps(group, schedule);
  }

  int64_t sum_size(int64_t) const override { return product_sum_size(common_.level()); }
  void contribute(const ClientGroup& group, int64_t, ExactSum& sum) const override {
    add_head_and_products(common_.level(), common_.rows(group), sum);
  }
  void aggregate(Tensor common, int64_t, const ExactSum& sum) const override {
    const Level& level = common_.level();
    const ProductAverage average = product_average(level, sum);
    const Tensor row = common_.rows(common.unsqueeze(0), {});
    row[0].narrow(0, level.head_block().offset, level.head_block().size).copy_(average.head);
    for (size_t site = 0; site < level.sites().size(); ++site) {
      const auto [down, up] = factors(average.products[site]);
      level.down(row, site)[0].copy_(down);
      level.up(row, site)[0].copy_(up);
    }
  }

 private:
  // The pair [r, in], [out, r] of the nearest product of rank r, unscaled; zeros beyond the rank that there
  // is.
  std::pair<Tensor, Tensor> factors(const Tensor& product) const {
    const double scale = common_.level().scale();
    const auto [u, s, vt] = torch::linalg_svd(product, /*full_matrices=*/false);
    const int64_t rank = std::min(common_.level().rank(), s.size(0));
    const Tensor left = u.narrow(1, 0, rank), root = s.narrow(0, 0, rank).sqrt();
    const Tensor largest = left.gather(0, left.abs().argmax(0, /*keepdim=*/true));  // [1, rank]
    const Tensor sign = torch::where(largest < 0, -torch::ones_like(largest), torch::ones_like(largest));
    Tensor up = torch::zeros({product.size(0), common_.level().rank()}, product.options());
    Tensor down = torch::zeros({common_.level().rank(), product.size(1)}, product.options());
    up.narrow(1, 0, rank).copy_(left * sign * root);
    down.narrow(0, 0, rank).copy_((sign * root).t() * vt.narrow(0, 0, rank) / scale);
    return {down, up};
  }

  Tensor ranks(const ClientGroup& group) const override {
    std::vector<double> ranks;
    for (int64_t client : group.clients) ranks.push_back(double(ranks_[size_t(client)]));
    return torch::tensor(ranks, torch::kFloat64).to(group.common.options());
  }

  std::vector<int64_t> ranks_;
};

}  // namespace

AlgorithmRow flexlora() {
  return {
      "flexlora", "clients of different ranks, the exact average redistributed by its singular values",
      [](const Options& options, const OptionSet* own, const Problem& problem) -> std::unique_ptr<Algorithm> {
        Options fresh = options;
        fresh.optimizer_state = "reset";  // moments of a pair that is gone mean nothing
        return std::make_unique<FlexLora>(fresh, dynamic_cast<const ClientRankOptions&>(*own), problem);
      },
      []() -> std::unique_ptr<OptionSet> { return std::make_unique<ClientRankOptions>(); }};
}

}  // namespace pf2lora
