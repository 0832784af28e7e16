#include "native/activation_op.h"

namespace pf2lora::native {

template <class T>
void ActivationOperation<T>::value(Pass<T>& pass) const {
  const int64_t count = this->size(pass);
  T* out = this->make(pass.value, pass);
  const bool on = this->active;
  T* slope = on && pass.reach != Reach::value ? this->keep(pass, Kept::slope, count) : nullptr;
  T* curvature = on && pass.reach == Reach::tangent ? this->keep(pass, Kept::curvature, count) : nullptr;
  pass.kernels.activation(kind_, count, this->input(pass.value), out, slope, curvature);
}

template <class T>
void ActivationOperation<T>::gradient(Pass<T>& pass) const {
  const int64_t count = this->size(pass);
  const Numbers<T> d_in = this->successor(pass.gradient, pass);
  pass.kernels.multiply(count, this->result(pass.gradient), this->kept(pass, Kept::slope), nullptr, nullptr,
                        nullptr, d_in.get());
  this->add(pass.gradient, pass, 0, d_in, count);
}

template <class T>
void ActivationOperation<T>::tangent(Pass<T>& pass) const {
  T* out = this->make(pass.tangent, pass);
  pass.kernels.multiply(this->size(pass), this->input(pass.tangent), this->kept(pass, Kept::slope), nullptr,
                        nullptr, nullptr, out);
}

template <class T>
void ActivationOperation<T>::gradient_tangent(Pass<T>& pass) const {
  const int64_t count = this->size(pass);
  const Numbers<T> t_d_in = this->successor(pass.gradient_tangent, pass);
  pass.kernels.multiply(count, this->result(pass.gradient_tangent), this->kept(pass, Kept::slope),
                        this->result(pass.gradient), this->kept(pass, Kept::curvature),
                        this->input(pass.tangent), t_d_in.get());
  this->add(pass.gradient_tangent, pass, 0, t_d_in, count);
}

template class ActivationOperation<float>;
template class ActivationOperation<double>;

}  // namespace pf2lora::native
