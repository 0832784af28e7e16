// Singular values of updates, in double precision: of low-rank ones without the dense matrices, by QR of both
// factors and the SVD of the small core.
#pragma once
#include <torch/types.h>

namespace pf2lora {

// What is measured of one site of one client, from the scaled terms s B A and s' D C.
struct PairSpectra {
  torch::Tensor common;  // [r] singular values of s B A, descending
  torch::Tensor client;  // [r~] of s' D C
  torch::Tensor total;   // [r + r~] of their sum, or with a dense update [min(out, in)] of all three
  double overlap;        // ||U_1^T U_2||_F^2 / min(rank), U of numerical rank at 1e-2; NaN when either is 0
  double norm_ratio;     // ||s' D C||_F / ||s B A||_F; NaN when the common term is 0
  double cosine;         // <BA, DC> / (||BA|| ||DC||); NaN when either is 0
};

// Singular values [R], descending, of up [out, R] * down [R, in]. Zeros where min(out, in) < R.
torch::Tensor singular_values(const torch::Tensor& down, const torch::Tensor& up);

// The spectra of up * down (common, already scaled) and client_up * client_down (scaled); ranks may be 0.
// `dense` [out, in] is a further part of the sum; undefined: there is none.
PairSpectra pair_spectra(const torch::Tensor& down, const torch::Tensor& up, const torch::Tensor& client_down,
                         const torch::Tensor& client_up, const torch::Tensor& dense = {});

}  // namespace pf2lora
