// Sums and products of two values, element by element.
#pragma once
#include "native/graph.h"

namespace pf2lora::native {

// a + b, such as the residual sum of a pre-norm network. Both share the gradient's memory where nothing else
// reaches them.
template <class T>
class AddOperation final : public Operation<T> {
 public:
  const char* name() const override { return "add"; }
  void value(Pass<T>& pass) const override;
  void gradient(Pass<T>& pass) const override;
  void tangent(Pass<T>& pass) const override;
  void gradient_tangent(Pass<T>& pass) const override;

 private:
  void hand_over(std::vector<Numbers<T>>& of, Pass<T>& pass) const;
};

// a * b. With an activation of the one, a gated linear unit (Shazeer 2020, arXiv 2002.05202).
template <class T>
class MultiplyOperation final : public Operation<T> {
 public:
  const char* name() const override { return "multiply"; }
  void value(Pass<T>& pass) const override;
  void gradient(Pass<T>& pass) const override;
  void tangent(Pass<T>& pass) const override;
  void gradient_tangent(Pass<T>& pass) const override;
  bool rereads_inputs() const override { return true; }
  bool rereads_tangents() const override { return true; }
  bool rereads_gradient() const override { return true; }
};

}  // namespace pf2lora::native
