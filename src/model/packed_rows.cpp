#include "model/packed_rows.h"

#include <torch/autograd.h>
#include <torch/types.h>

namespace pf2lora {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

struct TakeRows : torch::autograd::Function<TakeRows> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& rows) {
    context->save_for_backward({rows});
    context->saved_data["count"] = x.size(0);
    return x.index_select(0, rows);
  }
  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    const Tensor rows = context->get_saved_variables()[0];
    return {spread_rows(gradients[0], rows, context->saved_data["count"].toInt()), Tensor()};
  }
};

struct SpreadRows : torch::autograd::Function<SpreadRows> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& rows, int64_t count) {
    context->save_for_backward({rows});
    return x.new_zeros({count, x.size(1)}).index_copy_(0, rows, x);
  }
  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    return {take_rows(gradients[0], context->get_saved_variables()[0]), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor take_rows(const Tensor& x, const Tensor& rows) {
  return TakeRows::apply(x, rows);
}

Tensor spread_rows(const Tensor& x, const Tensor& rows, int64_t count) {
  return SpreadRows::apply(x, rows, count);
}

}  // namespace pf2lora
