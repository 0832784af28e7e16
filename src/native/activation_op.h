// An activation function, element by element.
#pragma once
#include "native/graph.h"

namespace pf2lora::native {

template <class T>
class ActivationOperation final : public Operation<T> {
 public:
  explicit ActivationOperation(Activation kind) : kind_(kind) {}
  const char* name() const override { return "activation"; }
  void value(Pass<T>& pass) const override;
  void gradient(Pass<T>& pass) const override;
  void tangent(Pass<T>& pass) const override;
  void gradient_tangent(Pass<T>& pass) const override;
  bool overwrites() const override { return true; }
  bool rereads_tangents() const override { return true; }
  bool rereads_gradient() const override { return true; }

 private:
  enum Kept { slope, curvature };
  Activation kind_;
};

}  // namespace pf2lora::native
