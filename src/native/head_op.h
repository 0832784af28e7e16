// Each client's own linear layer, y = x W_g^T + b_g: the classification head.
#pragma once
#include "native/graph.h"

namespace pf2lora::native {

template <class T>
class HeadOperation final : public Operation<T> {
 public:
  explicit HeadOperation(int64_t in) : in_(in) {}
  const char* name() const override { return "head"; }
  void value(Pass<T>& pass) const override;
  void gradient(Pass<T>& pass) const override;
  void tangent(Pass<T>& pass) const override;
  void gradient_tangent(Pass<T>& pass) const override;
  bool adapted() const override { return true; }
  bool rereads_inputs() const override { return true; }
  bool rereads_tangents() const override { return true; }
  bool rereads_gradient() const override { return true; }

 private:
  int64_t in_;
};

}  // namespace pf2lora::native
