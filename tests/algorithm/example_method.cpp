// FedAvgM: HOMLoRA whose average moves with momentum, v <- beta v + (average - x), x <- x + v.
// Hsu et al., Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification,
// 2019 (arXiv 1909.06335).
#include <torch/types.h>

#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

struct FedAvgMOptions final : OptionSet {
  double server_momentum = 0.9;

  void visit(OptionVisitor& v) override {
    v.option("server-momentum", server_momentum, "beta, the share of a move that goes on", between(0, 1));
  }
};

class FedAvgM final : public OneLevel {
 public:
  FedAvgM(const Options& options, const FedAvgMOptions& own, const Problem& problem)
      : OneLevel(options, problem, Owner::common), beta_(own.server_momentum) {
    common_layout_.add("momentum", {common_.level().size()});  // state: zero at first, then in checkpoints
  }

  void aggregate(torch::Tensor common, int64_t round, const ExactSum& sum) const override {
    const torch::Tensor x = common_.rows(common.unsqueeze(0), {})[0];  // a view of pairs and head
    const torch::Tensor before = x.clone();
    OneLevel::aggregate(common, round, sum);
    const torch::Tensor v = view(common.unsqueeze(0), common_layout_.find("momentum"))[0];
    v.mul_(beta_).add_(x - before);
    x.copy_(before + v);
  }

 private:
  double beta_;
};

}  // namespace

AlgorithmRow fedavgm() {
  return {
      "fedavgm", "one common adapter, averaged uniformly and moved with momentum",
      [](const Options& options, const OptionSet* own, const Problem& problem) -> std::unique_ptr<Algorithm> {
        return std::make_unique<FedAvgM>(options, dynamic_cast<const FedAvgMOptions&>(*own), problem);
      },
      []() -> std::unique_ptr<OptionSet> { return std::make_unique<FedAvgMOptions>(); }};
}

}  // namespace pf2lora
