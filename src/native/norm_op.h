// Norms of a sum x = a + b: layer norm, gain * (x - mean) / sqrt(variance + epsilon) + shift (Ba et al. 2016,
// arXiv 1607.06450), and RMS norm, gain * x / sqrt(mean of x^2 + epsilon) (Zhang and Sennrich 2019, arXiv
// 1910.07467).
#pragma once
#include "native/graph.h"

namespace pf2lora::native {

template <class T>
class AddNormOperation final : public Operation<T> {
 public:
  // Inputs a and b, or a alone. Layer norm: gain and shift [width].
  AddNormOperation(std::vector<T> gain, std::vector<T> shift, double epsilon)
      : gain_(std::move(gain)), shift_(std::move(shift)), epsilon_(epsilon), centred_(true) {}
  // RMS norm: gain [width].
  AddNormOperation(std::vector<T> gain, double epsilon)
      : gain_(std::move(gain)), epsilon_(epsilon), centred_(false) {}
  const char* name() const override { return "norm"; }
  void value(Pass<T>& pass) const override;
  void gradient(Pass<T>& pass) const override;
  void tangent(Pass<T>& pass) const override;
  void gradient_tangent(Pass<T>& pass) const override;
  bool rereads_gradient() const override { return true; }

 private:
  enum Kept { normal, scale, normal_tangent, scale_tangent, gradient_of_sum };
  const T* second(const std::vector<Numbers<T>>& of) const {
    return this->inputs.size() > 1 ? this->input(of, 1) : nullptr;
  }
  void add_to_inputs(std::vector<Numbers<T>>& of, Pass<T>& pass, const Numbers<T>& numbers) const;

  std::vector<T> gain_, shift_;
  double epsilon_;
  bool centred_;
};

}  // namespace pf2lora::native
