#include "native/elementwise_op.h"

namespace pf2lora::native {

template <class T>
void AddOperation<T>::value(Pass<T>& pass) const {
  T* out = this->make(pass.value, pass);
  pass.kernels.add(this->size(pass), this->input(pass.value, 0), this->input(pass.value, 1), out);
}

template <class T>
void AddOperation<T>::hand_over(std::vector<Numbers<T>>& of, Pass<T>& pass) const {
  const Numbers<T> numbers = of[size_t(this->id)];
  for (size_t i = 0; i < 2; ++i)
    if (this->input_is_active[i]) this->add(of, pass, i, numbers, this->size(pass));
}

template <class T>
void AddOperation<T>::gradient(Pass<T>& pass) const {
  hand_over(pass.gradient, pass);
}

template <class T>
void AddOperation<T>::tangent(Pass<T>& pass) const {
  for (size_t i = 0; i < 2; ++i)
    if (!this->input_is_active[i]) {
      pass.tangent[size_t(this->id)] = pass.tangent[size_t(this->inputs[1 - i])];
      return;
    }
  T* out = this->make(pass.tangent, pass);
  pass.kernels.add(this->size(pass), this->input(pass.tangent, 0), this->input(pass.tangent, 1), out);
}

template <class T>
void AddOperation<T>::gradient_tangent(Pass<T>& pass) const {
  hand_over(pass.gradient_tangent, pass);
}

template <class T>
void MultiplyOperation<T>::value(Pass<T>& pass) const {
  T* out = this->make(pass.value, pass);
  pass.kernels.multiply(this->size(pass), this->input(pass.value, 0), this->input(pass.value, 1), nullptr,
                        nullptr, nullptr, out);
}

template <class T>
void MultiplyOperation<T>::gradient(Pass<T>& pass) const {
  const int64_t count = this->size(pass);
  for (size_t i = 0; i < 2; ++i) {
    if (!this->input_is_active[i]) continue;
    const Numbers<T> d_in = pass.take(count);
    pass.kernels.multiply(count, this->result(pass.gradient), this->input(pass.value, 1 - i), nullptr,
                          nullptr, nullptr, d_in.get());
    this->add(pass.gradient, pass, i, d_in, count);
  }
}

template <class T>
void MultiplyOperation<T>::tangent(Pass<T>& pass) const {
  T* out = this->make(pass.tangent, pass);
  const size_t first = this->input_is_active[0] ? 0 : 1;
  const bool both = this->input_is_active[0] && this->input_is_active[1];
  pass.kernels.multiply(this->size(pass), this->input(pass.tangent, first),
                        this->input(pass.value, 1 - first), both ? this->input(pass.value, 0) : nullptr,
                        both ? this->input(pass.tangent, 1) : nullptr, nullptr, out);
}

template <class T>
void MultiplyOperation<T>::gradient_tangent(Pass<T>& pass) const {
  const int64_t count = this->size(pass);
  for (size_t i = 0; i < 2; ++i) {
    if (!this->input_is_active[i]) continue;
    const bool moves = this->input_is_active[1 - i];
    const Numbers<T> t_d_in = pass.take(count);
    pass.kernels.multiply(count, this->result(pass.gradient_tangent), this->input(pass.value, 1 - i),
                          moves ? this->result(pass.gradient) : nullptr,
                          moves ? this->input(pass.tangent, 1 - i) : nullptr, nullptr, t_d_in.get());
    this->add(pass.gradient_tangent, pass, i, t_d_in, count);
  }
}

template class AddOperation<float>;
template class AddOperation<double>;
template class MultiplyOperation<float>;
template class MultiplyOperation<double>;

}  // namespace pf2lora::native
