// The objective whose gradient PF2LoRA's hypergradient is, put together from a model's losses and gradients.
#pragma once
#include <torch/types.h>

#include <array>
#include <optional>
#include <string>

#include "adapters/level.h"
#include "core/options.h"
#include "model/problem.h"

namespace pf2lora {

// Phi(x) = F(x, y - a grad_y F(x, y; pi); xi) of each client, with pi the batch `lower` and xi `upper`.
class BilevelObjective {
 public:
  BilevelObjective(const Problem& problem, const Options& options, Batch lower, Batch upper,
                   double client_rate)
      : model_(problem.model()),
        lower_(std::move(lower)),
        upper_(std::move(upper)),
        client_rate_(client_rate),
        common_(model_.sites(), options.rank, problem.scale(options.rank), {"A", "B"},
                head(options, "common")),
        client_(model_.sites(), options.client_rank, problem.scale(options.client_rank), {"C", "D"},
                head(options, "personal")) {}

  BilevelObjective(const BilevelObjective&) = delete;  // levels_ points into it

  const Level& common() const { return common_; }
  const Level& client() const { return client_; }

  torch::Tensor next_client(const torch::Tensor& x, const torch::Tensor& y) const {
    const Gradient gradient = model_.gradient(lower_, adapters(x, y), Keep::nothing);
    return y - client_rate_ * split(levels_, gradient.rows)[1];
  }
  // The mean over each client's units: [G].
  torch::Tensor loss(const torch::Tensor& x, const torch::Tensor& y) const {
    const Losses losses = model_.loss(upper_, adapters(x, y));
    const torch::Tensor units = losses.units.defined() ? losses.units : torch::ones_like(losses.loss);
    std::vector<torch::Tensor> means;
    for (size_t g = 0; g < upper_.clients.size(); ++g) {
      const int64_t begin = upper_.client_offsets[g], end = upper_.client_offsets[g + 1];
      means.push_back(losses.loss.slice(0, begin, end).sum() / units.slice(0, begin, end).sum());
    }
    return torch::stack(means);
  }
  torch::Tensor value(const torch::Tensor& x, const torch::Tensor& y) const {
    return loss(x, next_client(x, y));
  }
  // The central difference of the value along a direction of x: [G].
  torch::Tensor slope(const torch::Tensor& x, const torch::Tensor& y, const torch::Tensor& along) const {
    constexpr double h = 1e-5;
    return (value(x + h * along, y) - value(x - h * along, y)) / (2 * h);
  }

 private:
  std::optional<HeadShape> head(const Options& options, const std::string& owner) const {
    return options.head == owner ? model_.head() : std::nullopt;
  }
  AdapterSet adapters(const torch::Tensor& x, const torch::Tensor& y) const {
    const std::array rows = {x, y};
    return compose(levels_, rows);
  }

  const Model& model_;
  Batch lower_, upper_;
  double client_rate_;
  Level common_, client_;
  std::array<const Level*, 2> levels_ = {&common_, &client_};
};

}  // namespace pf2lora
