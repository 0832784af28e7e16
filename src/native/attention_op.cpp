#include "native/attention_op.h"

namespace pf2lora::native {

template <class T>
AttentionShape AttentionOperation<T>::shape(const Pass<T>& pass) const {
  return {.offsets = pass.batch.token_offsets,
          .heads = heads_.count,
          .width = heads_.width,
          .queries = heads_.queries,
          .causal = heads_.causal,
          .scale = heads_.scale,
          .group = heads_.group};
}

template <class T>
int64_t AttentionOperation<T>::size_of_input(const Pass<T>& pass, size_t i) const {
  return i == 0 ? this->size(pass) : pass.batch.rows(Per::token) * row_of_input(i);
}

template <class T>
typename AttentionOperation<T>::InputGradients AttentionOperation<T>::input_gradients(Pass<T>& pass) const {
  InputGradients made;
  for (size_t i = 0; i < 3; ++i) {
    if (!this->input_is_active[i]) continue;
    made.numbers[i] = pass.take(size_of_input(pass, i));
    made.rows[i] = {made.numbers[i].get(), row_of_input(i)};
  }
  return made;
}

template <class T>
void AttentionOperation<T>::hand_over(std::vector<Numbers<T>>& of, Pass<T>& pass, InputGradients made) const {
  for (size_t i = 0; i < 3; ++i) {
    if (made.numbers[i] != nullptr) this->add(of, pass, i, made.numbers[i], size_of_input(pass, i));
    made.numbers[i].reset();
  }
}

template <class T>
void AttentionOperation<T>::value(Pass<T>& pass) const {
  const AttentionShape attention = shape(pass);
  T* out = this->make(pass.value, pass);
  const Numbers<T> scratch = pass.take(pass.kernels.attention_scratch(attention));
  T* weights = this->active && pass.reach != Reach::value
                   ? this->keep(pass, Kept::weights, pass.kernels.attention_weights(attention))
                   : nullptr;
  pass.kernels.attention(attention, rows(pass.value, 0), rows(pass.value, 1), rows(pass.value, 2), weights,
                         {out, row()}, scratch.get());
}

template <class T>
void AttentionOperation<T>::gradient(Pass<T>& pass) const {
  const AttentionShape attention = shape(pass);
  const Numbers<T> scratch = pass.take(pass.kernels.attention_scratch(attention));
  T* d_scores = pass.reach == Reach::tangent
                    ? this->keep(pass, Kept::scores_gradient, pass.kernels.attention_weights(attention))
                    : nullptr;
  InputGradients made = input_gradients(pass);
  pass.kernels.attention_gradient(attention, rows(pass.value, 0), rows(pass.value, 1), rows(pass.value, 2),
                                  this->kept(pass, Kept::weights), result_rows(pass.gradient), d_scores,
                                  made.rows[0], made.rows[1], made.rows[2], scratch.get());
  hand_over(pass.gradient, pass, std::move(made));
}

template <class T>
void AttentionOperation<T>::tangent(Pass<T>& pass) const {
  const AttentionShape attention = shape(pass);
  T* out = this->make(pass.tangent, pass);
  const Numbers<T> scratch = pass.take(pass.kernels.attention_scratch(attention));
  T* t_weights = this->keep(pass, Kept::weights_tangent, pass.kernels.attention_weights(attention));
  pass.kernels.attention_tangent(attention, rows(pass.value, 0), rows(pass.value, 1), rows(pass.value, 2),
                                 rows(pass.tangent, 0), rows(pass.tangent, 1), rows(pass.tangent, 2),
                                 this->kept(pass, Kept::weights), t_weights, {out, row()}, scratch.get());
}

template <class T>
void AttentionOperation<T>::gradient_tangent(Pass<T>& pass) const {
  const AttentionShape attention = shape(pass);
  const Numbers<T> scratch = pass.take(pass.kernels.attention_scratch(attention));
  InputGradients made = input_gradients(pass);
  pass.kernels.attention_gradient_tangent(
      attention, rows(pass.value, 0), rows(pass.value, 1), rows(pass.value, 2), rows(pass.tangent, 0),
      rows(pass.tangent, 1), rows(pass.tangent, 2), this->kept(pass, Kept::weights),
      this->kept(pass, Kept::weights_tangent), this->kept(pass, Kept::scores_gradient),
      result_rows(pass.gradient), result_rows(pass.gradient_tangent), made.rows[0], made.rows[1],
      made.rows[2], scratch.get());
  hand_over(pass.gradient_tangent, pass, std::move(made));
}

template class AttentionOperation<float>;
template class AttentionOperation<double>;

}  // namespace pf2lora::native
