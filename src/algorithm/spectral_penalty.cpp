#include "algorithm/spectral_penalty.h"

#include <torch/torch.h>

namespace pf2lora {

// With D = Q R and C^T = P T, D C = Q (R T^T) P^T; with R T^T = U S V^T its singular values are S, and
// Q U f(S) U^T R in place of D multiplies each of them by f(S).
void shrink_singular_values(const Level& level, torch::Tensor rows, double rate, double lambda) {
  for (size_t site = 0; site < level.sites().size() && level.rank() > 0; ++site) {
    const torch::Tensor down = level.down(rows, site).to(torch::kFloat64);  // [G, r~, in]
    const torch::Tensor up = level.up(rows, site).to(torch::kFloat64);      // [G, out, r~]
    const auto [q, r] = torch::linalg_qr(up);
    const torch::Tensor t = std::get<1>(torch::linalg_qr(down.transpose(1, 2)));
    const auto [u, s, vt] = torch::linalg_svd(r.matmul(t.transpose(1, 2)), /*full_matrices=*/false);
    const double scale = level.scale();
    const torch::Tensor fall = rate * lambda * scale * scale / double(level.rank()) *
                               down.square().sum({1, 2}).unsqueeze(1);  // [G, 1]
    const torch::Tensor values = scale * s;
    const torch::Tensor kept =
        torch::where(values > fall, 1 - fall / values.clamp_min(1e-300), torch::zeros_like(values));
    const torch::Tensor shrunk = q.matmul(u * kept.unsqueeze(1)).matmul(u.transpose(1, 2).matmul(r));
    level.up(rows, site).copy_(shrunk);
  }
}

}  // namespace pf2lora
