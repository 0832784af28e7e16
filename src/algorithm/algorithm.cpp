#include "algorithm/algorithm.h"

#include <torch/torch.h>

#include "algorithm/row_optimizer.h"

namespace pf2lora {
namespace {

constexpr const char* kWeight = "weight";

}  // namespace

void LossMeter::add(const torch::Tensor& loss, const std::vector<int64_t>& clients, int64_t round,
                    int64_t step, int64_t gradient_evaluations) {
  check_finite(loss, clients, "loss", round, step);
  const auto values = loss.to(torch::kCPU, torch::kFloat64);
  for (size_t g = 0; g < sum_.size(); ++g) sum_[g] += values[int64_t(g)].item<double>();
  gradient_evaluations_ += gradient_evaluations;
}

LocalReport LossMeter::report(int64_t steps) const {
  LocalReport report{sum_, gradient_evaluations_};
  for (double& loss : report.loss) loss /= double(steps);
  return report;
}

void Algorithm::send_common_row() {
  if (common_layout_.size() == 0) return;
  sent_layout_.append(common_layout_);
  sent_layout_.add(kWeight, {1});
}

void Algorithm::contribute(const ClientGroup& group, ExactSum& sum) const {
  if (sent_layout_.size() == 0) return;
  const torch::Tensor rows = group.common.to(torch::kCPU, torch::kFloat64).contiguous();
  for (size_t g = 0; g < group.clients.size(); ++g) {
    const double share = weight(group.clients[g]);
    sum.add(0, std::span(rows[int64_t(g)].data_ptr<double>(), size_t(rows.size(1))), share);
    const double one = 1;
    sum.add(size_t(sent_layout_.find(kWeight).offset), std::span(&one, 1), share);
  }
}

void Algorithm::aggregate(torch::Tensor common, const ExactSum& sum) const {
  if (sent_layout_.size() == 0) return;
  torch::Tensor total = torch::empty({sent_layout_.size()}, torch::kFloat64);
  sum.values(0, std::span(total.data_ptr<double>(), size_t(total.numel())));
  const auto weight = total[sent_layout_.find(kWeight).offset];
  common.copy_(total.narrow(0, 0, common.size(0)) / weight);
}

}  // namespace pf2lora
