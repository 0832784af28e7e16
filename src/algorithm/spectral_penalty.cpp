#include "algorithm/spectral_penalty.h"

#include <torch/types.h>

#include <cmath>

namespace pf2lora {
namespace {

using torch::Tensor;

// With up = Q R and down^T = O T, up down = Q (R T^T) O^T, and the SVD of R T^T is that of a small matrix.
struct Core {
  Tensor q, r, o, t;
  Tensor product() const { return r.matmul(t.t()); }
};

Core core_of(const Tensor& down, const Tensor& up) {
  const auto [q, r] = torch::linalg_qr(up.to(torch::kFloat64));
  const auto [o, t] = torch::linalg_qr(down.to(torch::kFloat64).t());
  return {q, r, o, t};
}

// By how much the parts of a singular direction in up and in down shrink.
struct Factors {
  double up = 1, down = 1;
};

// For a singular value x of the scaled product with squared lengths c2 = |down v|^2 and d2 = |up^T u|^2.
Factors factors(double x, double c2, double d2, double scale, double time, const SpectralPenalty& penalty) {
  constexpr double kLargestAngle = 20, kLeastDown = 0.5;
  const double slope = penalty.slope * std::max(0.0, 1 - x / penalty.free);
  const double angle = scale * slope * time;
  if (angle == 0 || x == 0) return {};
  // cosh 2a - (1 + excess) sinh 2a
  const double excess = std::max(0.0, scale * (c2 + d2) / (2 * x) - 1);
  const double left =
      angle > kLargestAngle ? 0 : std::max(0.0, std::exp(-2 * angle) - excess * std::sinh(2 * angle));
  const double kept = c2 - d2;
  const double squared = (kept + std::hypot(kept, 2 * std::sqrt(c2 * d2) * left)) / (2 * c2);
  // The floor matters where rounding or another optimiser has left down no larger than up.
  const double down = std::max(kLeastDown, std::sqrt(std::max(0.0, squared)));
  return {left / down, down};
}

}  // namespace

void shrink_singular_values(Tensor down, Tensor up, double scale, double time,
                            const SpectralPenalty& penalty) {
  const Core core = core_of(down, up);
  const auto [u, s, vt] = torch::linalg_svd(core.product(), /*full_matrices=*/false);
  const Tensor d2 = u.t().matmul(core.r).square().sum(1), c2 = vt.matmul(core.t).square().sum(1);
  Tensor of_up = torch::empty_like(s), of_down = torch::empty_like(s);
  for (int64_t i = 0; i < s.size(0); ++i) {
    const Factors found = factors(scale * s[i].item<double>(), c2[i].item<double>(), d2[i].item<double>(),
                                  scale, time, penalty);
    of_up[i] = found.up;
    of_down[i] = found.down;
  }
  if (of_up.eq(1).all().item<bool>() && of_down.eq(1).all().item<bool>()) return;
  // Put together from what is left, so that an update of which nothing is left is exactly 0.
  up.copy_(core.q.matmul(u).matmul(of_up.unsqueeze(1) * u.t().matmul(core.r)));
  const Tensor lost = (vt.matmul(core.t) * (1 - of_down).unsqueeze(1)).t().matmul(core.o.matmul(vt.t()).t());
  down.copy_(down.to(torch::kFloat64) - lost);
}

std::vector<double> largest_singular_values(const Level& level, const Tensor& row) {
  std::vector<double> largest;
  const Tensor rows = row.unsqueeze(0);
  for (size_t site = 0; site < level.sites().size() && level.rank() > 0; ++site)
    largest.push_back(
        level.scale() *
        torch::linalg_svdvals(core_of(level.down(rows, site)[0], level.up(rows, site)[0]).product())[0]
            .item<double>());
  return largest;
}

}  // namespace pf2lora
