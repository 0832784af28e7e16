#include "model/layer_norm.h"

#include <torch/autograd.h>
#include <torch/types.h>

namespace pf2lora {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// s P(a) with a = weight * gradient, y = s (x - mean), s = 1 / sqrt(variance + epsilon), averages <.> over a
// row, and P(v) = v - <v> - y <v y>.
Tensor pull_back(const Tensor& gradient, const Tensor& x, const Tensor& mean, const Tensor& s,
                 const Tensor& weight) {
  return std::get<0>(
      at::native_layer_norm_backward(gradient, x, {x.size(1)}, mean, s, weight, {}, {true, false, false}));
}

struct LayerNormGradient : torch::autograd::Function<LayerNormGradient> {
  static Tensor forward(AutogradContext* context, const Tensor& gradient, const Tensor& x, const Tensor& mean,
                        const Tensor& s, const Tensor& weight) {
    const Tensor result = pull_back(gradient, x, mean, s, weight);
    context->save_for_backward({gradient, x, mean, s, weight, result});
    return result;
  }
  // Of the sum of u * s P(a). P is symmetric, ds/dx = -s^2 y / C, and the derivative of y along v is s P(v):
  //   d/da = s P(u),   d/dx = -s^2 (y <u P(a)> + <a y> P(u) + <u y> P(a)).
  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &u = gradients[0], &x = saved[1], &mean = saved[2], &s = saved[3], &weight = saved[4];
    const Tensor a = saved[0] * weight, pa = saved[5];  // pa = s P(a)
    const Tensor y = (x - mean) * s;
    const Tensor pu = pull_back(u, x, mean, s, {});  // s P(u)
    const auto average = [](const Tensor& p, const Tensor& q) { return (p * q).mean(1, /*keepdim=*/true); };
    const Tensor by_x =
        (y * (s * average(u, pa))).addcmul_(pu, s * average(a, y)).addcmul_(pa, s * average(u, y));
    return {pu * weight, by_x.neg_(), Tensor(), Tensor(), Tensor()};
  }
};

struct LayerNorm : torch::autograd::Function<LayerNorm> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias,
                        double epsilon) {
    const auto [y, mean, s] = at::native_layer_norm(x, {x.size(1)}, weight, bias, epsilon);
    context->save_for_backward({x, mean, s, weight});
    return y;
  }
  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    const auto saved = context->get_saved_variables();
    return {LayerNormGradient::apply(gradients[0], saved[0], saved[1], saved[2], saved[3]), Tensor(),
            Tensor(), Tensor()};
  }
};

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  return LayerNorm::apply(x, weight, bias, epsilon);
}

}  // namespace pf2lora
