#include "native/norm_op.h"

namespace pf2lora::native {

template <class T>
void AddNormOperation<T>::value(Pass<T>& pass) const {
  const int64_t rows = pass.batch.rows(this->per);
  T* out = this->make(pass.value, pass);
  pass.kernels.add_norm(
      centred_, rows, this->width, this->input(pass.value), second(pass.value), gain_.data(), shift_.data(),
      epsilon_, this->keep(pass, Kept::normal, this->size(pass)), this->keep(pass, Kept::scale, rows), out);
}

template <class T>
void AddNormOperation<T>::add_to_inputs(std::vector<Numbers<T>>& of, Pass<T>& pass,
                                        const Numbers<T>& numbers) const {
  for (size_t i = 0; i < this->inputs.size(); ++i)
    if (this->input_is_active[i]) this->add(of, pass, i, numbers, this->size(pass));
}

template <class T>
void AddNormOperation<T>::gradient(Pass<T>& pass) const {
  const Numbers<T> d_sum = this->successor(pass.gradient, pass);
  pass.kernels.add_norm_gradient(centred_, pass.batch.rows(this->per), this->width,
                                 this->result(pass.gradient), gain_.data(), this->kept(pass, Kept::normal),
                                 this->kept(pass, Kept::scale), d_sum.get());
  add_to_inputs(pass.gradient, pass, d_sum);
  if (pass.reach == Reach::tangent) this->keep(pass, Kept::gradient_of_sum, d_sum);
}

template <class T>
void AddNormOperation<T>::tangent(Pass<T>& pass) const {
  const int64_t rows = pass.batch.rows(this->per);
  T* out = this->make(pass.tangent, pass);
  pass.kernels.add_norm_tangent(centred_, rows, this->width, this->input(pass.tangent), second(pass.tangent),
                                gain_.data(), this->kept(pass, Kept::normal), this->kept(pass, Kept::scale),
                                this->keep(pass, Kept::normal_tangent, this->size(pass)),
                                this->keep(pass, Kept::scale_tangent, rows), out);
}

template <class T>
void AddNormOperation<T>::gradient_tangent(Pass<T>& pass) const {
  const Numbers<T> t_d_sum = this->successor(pass.gradient_tangent, pass);
  pass.kernels.add_norm_gradient_tangent(
      centred_, pass.batch.rows(this->per), this->width, this->result(pass.gradient),
      this->result(pass.gradient_tangent), gain_.data(), this->kept(pass, Kept::normal),
      this->kept(pass, Kept::normal_tangent), this->kept(pass, Kept::scale),
      this->kept(pass, Kept::scale_tangent), this->kept(pass, Kept::gradient_of_sum), t_d_sum.get());
  add_to_inputs(pass.gradient_tangent, pass, t_d_sum);
}

template class AddNormOperation<float>;
template class AddNormOperation<double>;

}  // namespace pf2lora::native
