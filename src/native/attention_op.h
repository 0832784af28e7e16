// Attention within the examples of a packed batch: inputs query, key and value.
#pragma once
#include "native/graph.h"

namespace pf2lora::native {

template <class T>
class AttentionOperation final : public Operation<T> {
 public:
  // Where the query has a row for each example, it is that of the first token.
  AttentionOperation(int64_t heads, bool causal) : heads_(heads), causal_(causal) {}
  const char* name() const override { return "attention"; }
  void value(Pass<T>& pass) const override;
  void gradient(Pass<T>& pass) const override;
  void tangent(Pass<T>& pass) const override;
  void gradient_tangent(Pass<T>& pass) const override;
  bool rereads_inputs() const override { return true; }
  bool rereads_tangents() const override { return true; }
  bool rereads_gradient() const override { return true; }

 private:
  enum Kept { weights, weights_tangent, scores_gradient };
  AttentionShape shape(const Pass<T>& pass) const;
  // The input's or, made anew, the input's gradient's rows; without data where there are none.
  Rows<const T> rows(const std::vector<Numbers<T>>& of, size_t i) const;
  Rows<T> fresh(std::vector<Numbers<T>>& of, Pass<T>& pass, size_t i) const;

  int64_t heads_;
  bool causal_;
};

}  // namespace pf2lora::native
