#include "native/attention_op.h"

#include <cassert>

namespace pf2lora::native {

template <class T>
AttentionShape AttentionOperation<T>::shape(const Pass<T>& pass) const {
  return {.offsets = pass.batch.token_offsets,
          .heads = heads_,
          .width = this->width / heads_,
          .first_only = this->per == Per::example,
          .causal = causal_};
}

template <class T>
Rows<const T> AttentionOperation<T>::rows(const std::vector<Numbers<T>>& of, size_t i) const {
  return {this->input(of, i), this->width};
}

// Keys, values and queries have no other reader, so nothing stands there yet.
template <class T>
Rows<T> AttentionOperation<T>::fresh(std::vector<Numbers<T>>& of, Pass<T>& pass, size_t i) const {
  const int64_t count = pass.batch.rows(i == 0 ? this->per : Per::token) * this->width;
  const Destination<T> destination = this->destination(of, pass, i, count);
  assert(!destination.add);
  return {destination.data, this->width};
}

template <class T>
void AttentionOperation<T>::value(Pass<T>& pass) const {
  const AttentionShape attention = shape(pass);
  T* out = this->make(pass.value, pass);
  const Numbers<T> scratch = pass.take(pass.kernels.attention_scratch(attention));
  T* weights = this->keep(pass, Kept::weights, pass.kernels.attention_weights(attention));
  pass.kernels.attention(attention, rows(pass.value, 0), rows(pass.value, 1), rows(pass.value, 2), weights,
                         {out, this->width}, scratch.get());
}

template <class T>
void AttentionOperation<T>::gradient(Pass<T>& pass) const {
  const AttentionShape attention = shape(pass);
  const Numbers<T> scratch = pass.take(pass.kernels.attention_scratch(attention));
  T* d_scores = this->keep(pass, Kept::scores_gradient, pass.kernels.attention_weights(attention));
  const Rows<T> d_q = fresh(pass.gradient, pass, 0), d_k = fresh(pass.gradient, pass, 1),
                d_v = fresh(pass.gradient, pass, 2);
  pass.kernels.attention_gradient(attention, rows(pass.value, 0), rows(pass.value, 1), rows(pass.value, 2),
                                  this->kept(pass, Kept::weights), {this->result(pass.gradient), this->width},
                                  d_scores, d_q, d_k, d_v, scratch.get());
}

template <class T>
void AttentionOperation<T>::tangent(Pass<T>& pass) const {
  const AttentionShape attention = shape(pass);
  T* out = this->make(pass.tangent, pass);
  const Numbers<T> scratch = pass.take(pass.kernels.attention_scratch(attention));
  T* t_weights = this->keep(pass, Kept::weights_tangent, pass.kernels.attention_weights(attention));
  pass.kernels.attention_tangent(attention, rows(pass.value, 0), rows(pass.value, 1), rows(pass.value, 2),
                                 rows(pass.tangent, 0), rows(pass.tangent, 1), rows(pass.tangent, 2),
                                 this->kept(pass, Kept::weights), t_weights, {out, this->width},
                                 scratch.get());
}

template <class T>
void AttentionOperation<T>::gradient_tangent(Pass<T>& pass) const {
  const AttentionShape attention = shape(pass);
  const Numbers<T> scratch = pass.take(pass.kernels.attention_scratch(attention));
  auto& gradients = pass.gradient_tangent;
  const Rows<T> d_q = fresh(gradients, pass, 0), d_k = fresh(gradients, pass, 1),
                d_v = fresh(gradients, pass, 2);
  pass.kernels.attention_gradient_tangent(
      attention, rows(pass.value, 0), rows(pass.value, 1), rows(pass.value, 2), rows(pass.tangent, 0),
      rows(pass.tangent, 1), rows(pass.tangent, 2), this->kept(pass, Kept::weights),
      this->kept(pass, Kept::weights_tangent), this->kept(pass, Kept::scores_gradient),
      {this->result(pass.gradient), this->width}, {this->result(gradients), this->width}, d_q, d_k, d_v,
      scratch.get());
}

template class AttentionOperation<float>;
template class AttentionOperation<double>;

}  // namespace pf2lora::native
