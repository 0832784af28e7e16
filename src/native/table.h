// The table of a processor kind out of the templates, and the tables that the kinds' files define. Nothing
// here runs before a table is chosen: they are constants.
#pragma once
#include "native/activation.h"
#include "native/adamw.h"
#include "native/attention.h"
#include "native/elementwise.h"
#include "native/kernels.h"
#include "native/norm.h"
#include "native/panels.h"
#include "native/product.h"
#include "native/rotary.h"
#include "native/softmax.h"

namespace pf2lora::native {

extern const Kernels<float> plain_float, avx2_float, avx512_float;
extern const Kernels<double> plain_double, avx2_double, avx512_double;

template <class P, class T>
void product_entry(std::span<const Term<T>> terms, int64_t rows, int64_t columns, Rows<T> c, const T* bias,
                   bool add) {
  Product<P, T>::run(terms.data(), int64_t(terms.size()), rows, columns, {c, bias, add});
}

template <class P, class T>
constexpr Kernels<T> table() {
  return {
      .name = P::name,
      .panel = Tiles<P, T>::panel,
      .pack_panels = pack_panels<P, T>,
      .product = product_entry<P, T>,
      .add_norm = Norm<P, T, true>::add_norm,
      .add_norm_gradient = Norm<P, T, true>::add_norm_gradient,
      .add_norm_tangent = Norm<P, T, true>::add_norm_tangent,
      .add_norm_gradient_tangent = Norm<P, T, true>::add_norm_gradient_tangent,
      .add_rms_norm = Norm<P, T, false>::add_norm,
      .add_rms_norm_gradient = Norm<P, T, false>::add_norm_gradient,
      .add_rms_norm_tangent = Norm<P, T, false>::add_norm_tangent,
      .add_rms_norm_gradient_tangent = Norm<P, T, false>::add_norm_gradient_tangent,
      .activation = ActivationKernels<P, T>::activation,
      .multiply = ElementwiseKernels<P, T>::multiply,
      .add = ElementwiseKernels<P, T>::add,
      .softmax = Softmax<P, T>::softmax,
      .softmax_tangent = Softmax<P, T>::softmax_tangent,
      .rotate = Rotary<P, T>::rotate,
      .attention_weights = Attention<P, T>::weights_size,
      .attention_scratch = Attention<P, T>::scratch_size,
      .attention = Attention<P, T>::value,
      .attention_gradient = Attention<P, T>::gradient,
      .attention_tangent = Attention<P, T>::tangent,
      .attention_gradient_tangent = Attention<P, T>::gradient_tangent,
      .adamw = Adamw<P, T>::step,
  };
}

}  // namespace pf2lora::native
