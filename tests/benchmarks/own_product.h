// A product as the native backend makes it, for timing.
#pragma once
#include <torch/types.h>

#include <functional>

#include "native/kernels.h"

namespace pf2lora::native {

// c [rows, out] = x [rows, in] b [in, out], b packed now; in float.
inline std::function<void()> own_product(const Kernels<float>& table, const torch::Tensor& x,
                                         const torch::Tensor& b, const torch::Tensor& c) {
  const int64_t in = b.size(0), out = b.size(1);
  const torch::Tensor panels = torch::empty({table.panels_size(in, out)});
  table.pack_panels(b.data_ptr<float>(), b.stride(0), b.stride(1), in, out, panels.data_ptr<float>());
  return [=, &table] {
    const Term<float> term{x.data_ptr<float>(), x.stride(0), x.stride(1),     in,
                           panels.data_ptr<float>(), table.panel, table.panel * in};
    table.product({&term, 1}, x.size(0), out, {c.data_ptr<float>(), out}, nullptr, false);
  };
}

}  // namespace pf2lora::native
