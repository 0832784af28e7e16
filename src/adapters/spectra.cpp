#include "adapters/spectra.h"

#include <torch/types.h>

#include <cmath>
#include <limits>

namespace pf2lora {
namespace {

constexpr double kNumericalRank = 1e-2;  // of the largest singular value

torch::Tensor f64(const torch::Tensor& tensor) {
  return tensor.to(torch::kCPU, torch::kFloat64);
}

struct Decomposition {
  torch::Tensor values;  // [R] descending, zero-padded to R
  torch::Tensor left;    // [out, min(out, in, R)] left singular vectors
};

Decomposition decompose(const torch::Tensor& down, const torch::Tensor& up) {
  const auto u = f64(up), d = f64(down);
  const int64_t rank = d.size(0);
  if (rank == 0) return {u.new_zeros({0}), u.new_zeros({u.size(0), 0})};
  const auto [q_up, r_up] = torch::linalg_qr(u, "reduced");
  const auto [q_down, r_down] = torch::linalg_qr(d.t(), "reduced");
  const auto [left, values, right] = torch::linalg_svd(r_up.mm(r_down.t()), /*full_matrices=*/false);
  auto padded = u.new_zeros({rank});
  padded.narrow(0, 0, values.size(0)).copy_(values);
  return {padded, q_up.mm(left)};
}

int64_t numerical_rank(const torch::Tensor& values) {
  if (values.numel() == 0 || values[0].item<double>() == 0) return 0;
  return (values >= kNumericalRank * values[0]).sum().item<int64_t>();
}

}  // namespace

torch::Tensor singular_values(const torch::Tensor& down, const torch::Tensor& up) {
  return decompose(down, up).values;
}

PairSpectra pair_spectra(const torch::Tensor& down, const torch::Tensor& up, const torch::Tensor& client_down,
                         const torch::Tensor& client_up, const torch::Tensor& dense) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const Decomposition common = decompose(down, up), client = decompose(client_down, client_up);
  const auto all_down = torch::cat({f64(down), f64(client_down)}, 0),
             all_up = torch::cat({f64(up), f64(client_up)}, 1);
  PairSpectra spectra{common.values,
                      client.values,
                      dense.defined() ? torch::linalg_svdvals(f64(dense) + all_up.mm(all_down))
                                      : singular_values(all_down, all_up),
                      nan,
                      nan,
                      nan};
  const double common_norm = common.values.norm().item<double>();
  const double client_norm = client.values.norm().item<double>();
  if (common_norm > 0) spectra.norm_ratio = client_norm / common_norm;
  if (common_norm == 0 || client_norm == 0) return spectra;

  const int64_t common_rank = numerical_rank(common.values), client_rank = numerical_rank(client.values);
  const auto between = common.left.narrow(1, 0, common_rank).t().mm(client.left.narrow(1, 0, client_rank));
  spectra.overlap = between.square().sum().item<double>() / double(std::min(common_rank, client_rank));
  // <BA, DC> = trace of (B^T D) (C A^T)
  const auto inner = (f64(up).t().mm(f64(client_up)) * f64(down).mm(f64(client_down).t())).sum();
  spectra.cosine = inner.item<double>() / (common_norm * client_norm);
  return spectra;
}

}  // namespace pf2lora
