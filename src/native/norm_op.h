// Layer norm of a sum, gain * (a + b - mean) / sqrt(variance + epsilon) + shift (Ba et al. 2016, arXiv
// 1607.06450).
#pragma once
#include "native/graph.h"

namespace pf2lora::native {

template <class T>
class AddNormOperation final : public Operation<T> {
 public:
  // gain and shift [width]. Inputs a and b.
  AddNormOperation(std::vector<T> gain, std::vector<T> shift, double epsilon)
      : gain_(std::move(gain)), shift_(std::move(shift)), epsilon_(epsilon) {}
  const char* name() const override { return "norm"; }
  void value(Pass<T>& pass) const override;
  void gradient(Pass<T>& pass) const override;
  void tangent(Pass<T>& pass) const override;
  void gradient_tangent(Pass<T>& pass) const override;
  bool rereads_gradient() const override { return true; }

 private:
  enum Kept { normal, scale, normal_tangent, scale_tangent, gradient_of_sum };
  void add_to_inputs(std::vector<Numbers<T>>& of, Pass<T>& pass, const Numbers<T>& numbers) const;

  std::vector<T> gain_, shift_;
  double epsilon_;
};

}  // namespace pf2lora::native
