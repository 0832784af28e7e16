// The spectral penalty, by which the rank of an update P = s up down falls below that of its pair, to where
// its data want it: the minimax concave penalty (MCP; Zhang, Annals of Statistics 38, 2010) of the singular
// values of P, whose slope at a singular value x is
//   p(x) = lambda max(0, 1 - x / free).
// It is lambda at 0, so that what the loss does not ask for more strongly vanishes, and none from `free` on:
// what is kept is not shrunk, as it would be by the nuclear norm. Its step goes the way of the gradient steps
// on the factors. Steps of total rate t against a slope p along a singular direction (u, v), with d = |up^T
// u| and c = |down v|, are d' = -s p c, c' = -s p d over t (Saxe, McClelland, Ganguli, ICLR 2014). These keep
// c^2 - d^2, and with a = s p t they turn x into
//   x cosh 2a - s (c^2 + d^2) / 2 sinh 2a, or 0 where that is negative.
// The loss lets a direction grow along the same curve, so that it lasts if the loss falls along it by more
// than lambda, at any rate, scale and size of the factors. p is taken before the step (Zou and Li, One-step
// sparse estimates, Annals of Statistics 36, 2008).
#pragma once
#include <vector>

#include "adapters/level.h"

namespace pf2lora {

struct SpectralPenalty {
  double slope = 0;  // lambda; infinite: nothing lasts that is not free
  double free = 0;   // the singular value from which on there is no penalty; infinite: the nuclear norm
};

// One step in place for a pair down [r, in], up [out, r] with scale s, after gradient steps of total rate
// `time`. Singular vectors of the product stay as they are, and down keeps what it needs to grow again.
void shrink_singular_values(torch::Tensor down, torch::Tensor up, double scale, double time,
                            const SpectralPenalty& penalty);

// Of a level's scaled product at each site, of one row [level.size()]; nothing where its rank is 0.
std::vector<double> largest_singular_values(const Level& level, const torch::Tensor& row);

}  // namespace pf2lora
