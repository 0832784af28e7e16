// Rotary position embedding of queries or keys (Su et al. 2021, arXiv 2104.09864): columns j and j + half of
// a head are turned by the angle of the token's place in its example times frequency j.
#pragma once
#include "native/graph.h"

namespace pf2lora::native {

// base^(-2 j / width) for j < width / 2: those of a model whose frequencies are not scaled.
std::vector<double> rotary_frequencies(double base, int64_t width);

// Of all angles that examples of up to `positions` tokens need; one serves every layer.
template <class T>
struct RotaryTable {
  // frequencies [half], in radians a token.
  RotaryTable(const std::vector<double>& frequencies, int64_t positions);
  int64_t half, positions;
  std::vector<T> cosines, sines;  // [positions, half]
};

// Linear in its input, so its tangent is its value; its gradient turns back.
template <class T>
class RotaryOperation final : public Operation<T> {
 public:
  // Of `heads` heads of `width` columns, at least twice the table's half; what is beyond that stays. The
  // value throws InputError where an example has more tokens than the table has positions.
  RotaryOperation(int64_t heads, int64_t width, std::shared_ptr<const RotaryTable<T>> table)
      : shape_{heads, width, table->half}, table_(std::move(table)) {}
  const char* name() const override { return "rotary"; }
  void value(Pass<T>& pass) const override;
  void gradient(Pass<T>& pass) const override { turn_back(pass, pass.gradient); }
  void tangent(Pass<T>& pass) const override;
  void gradient_tangent(Pass<T>& pass) const override { turn_back(pass, pass.gradient_tangent); }

 private:
  void turn(const Pass<T>& pass, const T* in, bool back, T* out) const;
  void turn_back(Pass<T>& pass, std::vector<Numbers<T>>& gradients) const;

  RotaryShape shape_;
  std::shared_ptr<const RotaryTable<T>> table_;
};

}  // namespace pf2lora::native
