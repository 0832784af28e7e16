#include "algorithm/row_optimizer.h"

#include <torch/types.h>

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/profile.h"
#include "native/kernels.h"

namespace pf2lora {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;

}  // namespace

RowOptimizer::RowOptimizer(Rule rule, int64_t size, double weight_decay)
    : rule_(rule), size_(size), weight_decay_(weight_decay) {
  if (rule_ == Rule::sgd || size_ == 0) return;
  state_layout_.add("moment1", {size_});
  state_layout_.add("moment2", {size_});
  state_layout_.add("steps", {1});
}

void RowOptimizer::step(torch::Tensor rows, const torch::Tensor& gradient, torch::Tensor state,
                        double rate) const {
  if (size_ == 0) return;
  const ProfileSpan span("optimizer", "step");
  if (rule_ == Rule::sgd) {
    if (weight_decay_ != 0) rows.mul_(1 - rate * weight_decay_);
    rows.sub_(gradient, rate);
  } else if (rows.scalar_type() == torch::kFloat64) {
    adamw<double>(rows, gradient, state, rate);
  } else {
    adamw<float>(rows, gradient, state, rate);
  }
}

template <class T>
void RowOptimizer::adamw(torch::Tensor& rows, const torch::Tensor& gradient, torch::Tensor& state,
                         double rate) const {
  for (int64_t g = 0; g < rows.size(0); ++g) {
    T* moments = state[g].data_ptr<T>();  // moment1, moment2, steps
    const double steps = double(moments[2 * size_] += 1);
    const native::AdamwStep step{.rate = rate,
                                 .decay = 1 - rate * weight_decay_,
                                 .beta1 = kBeta1,
                                 .beta2 = kBeta2,
                                 .epsilon = kEpsilon,
                                 .correction1 = 1 - std::pow(kBeta1, steps),
                                 .correction2 = 1 - std::pow(kBeta2, steps)};
    native::kernels<T>().adamw(size_, step, gradient[g].contiguous().data_ptr<T>(), rows[g].data_ptr<T>(),
                               moments, moments + size_);
  }
}

torch::Tensor RowOptimizer::response(const torch::Tensor& state, Block block, double rate) const {
  if (rule_ == Rule::sgd) return torch::full({state.size(0)}, rate, torch::kFloat64);
  const auto second = state.narrow(1, size_ + block.offset, block.size).to(torch::kFloat64).mean(1);
  const auto steps = state.select(1, 2 * size_).to(torch::kFloat64);
  return rate / ((second / (1 - torch::pow(kBeta2, steps))).sqrt() + kEpsilon);
}

double scheduled_rate(const Options& options, double base, int64_t round, int64_t step) {
  const double all = double(options.rounds) * double(options.local_steps);
  const double done = double(round - 1) * double(options.local_steps) + double(step);
  const double rise = options.warmup * all;
  if (done < rise) return base * (done + 1) / (rise + 1);
  if (options.schedule == "constant") return base;
  const double share = std::min(1.0, (done - rise) / std::max(1.0, all - rise));
  return base * 0.5 * (1 + std::cos(std::numbers::pi * share));
}

void clip_rows(torch::Tensor& gradient, double largest) {
  if (largest == 0) return;
  const auto norms = gradient.norm(2, {1}, /*keepdim=*/true);
  gradient = gradient * torch::clamp_max(largest / (norms + 1e-6), 1);
}

void check_finite(const torch::Tensor& rows, const std::vector<int64_t>& clients, const std::string& what,
                  int64_t round, int64_t step) {
  const auto flat = rows.dim() == 1 ? rows.unsqueeze(1) : rows;
  const auto sums = flat.sum(1).to(torch::kCPU, torch::kFloat64);  // not finite where any of the row is not
  for (int64_t g = 0; g < sums.size(0); ++g)
    if (!std::isfinite(sums[g].item<double>()))
      throw NumericalError("the " + what + " of client " + std::to_string(clients[size_t(g)]) +
                           " is no longer finite in round " + std::to_string(round) + ", local step " +
                           std::to_string(step) +
                           "; lower --learning-rate or --client-learning-rate, or set --clip");
}

}  // namespace pf2lora
