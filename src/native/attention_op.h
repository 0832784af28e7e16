// Attention within the examples of a packed batch: inputs query, key and value.
#pragma once
#include <array>

#include "native/graph.h"

namespace pf2lora::native {

struct AttentionHeads {
  int64_t count = 1;
  int64_t width = 1;    // of a head's query, key and value
  int64_t queries = 0;  // AttentionShape::queries; above 0 the query has a row for each example
  bool causal = false;
  double scale = 1;
  int64_t group = 1;  // AttentionShape::group, which divides count
};

template <class T>
class AttentionOperation final : public Operation<T> {
 public:
  // Keys and values have count / group * width columns. An example's queries stand side by side, each of them
  // count * width columns.
  explicit AttentionOperation(AttentionHeads heads) : heads_(heads) {}
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
  int64_t row() const { return heads_.count * heads_.width; }
  int64_t row_of_input(size_t i) const { return i == 0 ? row() : row() / heads_.group; }
  Rows<const T> rows(const std::vector<Numbers<T>>& of, size_t i) const {
    return {this->input(of, i), row_of_input(i)};  // without data where there are none
  }
  Rows<const T> result_rows(const std::vector<Numbers<T>>& of) const { return {this->result(of), row()}; }

  // New memory for the gradients of the inputs that are active, and its way to them: key and value may be one
  // input.
  struct InputGradients {
    std::array<Numbers<T>, 3> numbers;
    std::array<Rows<T>, 3> rows;
  };
  int64_t size_of_input(const Pass<T>& pass, size_t i) const;
  InputGradients input_gradients(Pass<T>& pass) const;
  void hand_over(std::vector<Numbers<T>>& of, Pass<T>& pass, InputGradients made) const;

  AttentionHeads heads_;
};

}  // namespace pf2lora::native
