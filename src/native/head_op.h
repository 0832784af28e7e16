// Each client's own linear layer, y = x W_g^T + b_g: a layer of its head.
#pragma once
#include "native/graph.h"

namespace pf2lora::native {

template <class T>
class HeadOperation final : public Operation<T> {
 public:
  // `layer` counts those of the head.
  explicit HeadOperation(int64_t in, size_t layer = 0) : in_(in), layer_(layer) {}
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
  // Of a client's head in what a pass has of all clients.
  template <class Heads>
  auto& own(Heads& heads, const Pass<T>& pass, size_t client) const {
    return heads[layer_ * size_t(pass.batch.clients()) + client];
  }

  int64_t in_;
  size_t layer_;
};

}  // namespace pf2lora::native
