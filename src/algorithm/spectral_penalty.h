// A penalty on the nuclear norm of a client's update, lambda ||s' D C||_*, by which a client's rank can fall
// below that of its pair and settle where its data want it. Proximal step: singular values of s' D C shrink
// towards 0 and stay there (soft thresholding; Cai, Candes, Shen 2010), D alone being changed, so that C is
// ready to grow again.
#pragma once
#include "adapters/level.h"

namespace pf2lora {

// After a gradient step of rate `rate` on rows [G, level.size()], in place. In the metric of that step on D,
// a singular value falls by rate lambda s'^2 ||C||_F^2 / r~: a direction lasts where the loss changes along
// it by more than lambda.
void shrink_singular_values(const Level& level, torch::Tensor rows, double rate, double lambda);

}  // namespace pf2lora
