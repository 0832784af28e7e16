// From a row for each token to a row for each example or target.
#pragma once
#include "native/graph.h"

namespace pf2lora::native {

// Linear in its input, so its tangent is its value and the tangent of its gradient its gradient.
template <class T>
class PoolingOperation : public Operation<T> {
 public:
  const char* name() const override { return "pooling"; }
  void value(Pass<T>& pass) const override {
    this->pool(pass.batch, this->input(pass.value), this->make(pass.value, pass));
  }
  void gradient(Pass<T>& pass) const override { spread(pass, pass.gradient); }
  void tangent(Pass<T>& pass) const override {
    this->pool(pass.batch, this->input(pass.tangent), this->make(pass.tangent, pass));
  }
  void gradient_tangent(Pass<T>& pass) const override { spread(pass, pass.gradient_tangent); }

 private:
  virtual void pool(const BatchShape& batch, const T* tokens, T* pooled) const = 0;
  // Adds the gradient of what is pooled, [N or R, width], to that of the tokens [T, width].
  virtual void add_gradient(const BatchShape& batch, const T* d_pooled, T* d_tokens) const = 0;
  void spread(Pass<T>& pass, std::vector<Numbers<T>>& gradients) const;
};

// The first token of each example.
template <class T>
class FirstOperation final : public PoolingOperation<T> {
  void pool(const BatchShape& batch, const T* tokens, T* examples) const override;
  void add_gradient(const BatchShape& batch, const T* d_examples, T* d_tokens) const override;
};

// The mean over an example's tokens.
template <class T>
class MeanOperation final : public PoolingOperation<T> {
  void pool(const BatchShape& batch, const T* tokens, T* examples) const override;
  void add_gradient(const BatchShape& batch, const T* d_examples, T* d_tokens) const override;
};

// The tokens that are targets.
template <class T>
class TargetOperation final : public PoolingOperation<T> {
  void pool(const BatchShape& batch, const T* tokens, T* targets) const override;
  void add_gradient(const BatchShape& batch, const T* d_targets, T* d_tokens) const override;
};

}  // namespace pf2lora::native
