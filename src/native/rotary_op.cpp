#include "native/rotary_op.h"

#include <cmath>
#include <string>

#include "core/error.h"

namespace pf2lora::native {

std::vector<double> rotary_frequencies(double base, int64_t width) {
  std::vector<double> frequencies;
  for (int64_t j = 0; j < width / 2; ++j)
    frequencies.push_back(std::pow(base, -2.0 * double(j) / double(width)));
  return frequencies;
}

template <class T>
RotaryTable<T>::RotaryTable(const std::vector<double>& frequencies, int64_t up_to)
    : half(int64_t(frequencies.size())), positions(up_to) {
  for (int64_t position = 0; position < positions; ++position)
    for (const double frequency : frequencies) {
      cosines.push_back(T(std::cos(double(position) * frequency)));
      sines.push_back(T(std::sin(double(position) * frequency)));
    }
}

template <class T>
void RotaryOperation<T>::turn(const Pass<T>& pass, const T* in, bool back, T* out) const {
  const auto& offsets = pass.batch.token_offsets;
  for (int64_t i = 0; i < pass.batch.examples(); ++i) {
    const int64_t begin = offsets[size_t(i)] * this->width,
                  tokens = offsets[size_t(i) + 1] - offsets[size_t(i)];
    pass.kernels.rotate(shape_, tokens, in + begin, table_->cosines.data(), table_->sines.data(), back,
                        out + begin);
  }
}

template <class T>
void RotaryOperation<T>::value(Pass<T>& pass) const {
  const auto& offsets = pass.batch.token_offsets;
  for (size_t i = 0; i + 1 < offsets.size(); ++i)
    if (offsets[i + 1] - offsets[i] > table_->positions)
      throw InputError("an example has " + std::to_string(offsets[i + 1] - offsets[i]) +
                       " tokens, but the model's rotary positions end at " +
                       std::to_string(table_->positions) + ": use shorter examples");
  turn(pass, this->input(pass.value), false, this->make(pass.value, pass));
}

template <class T>
void RotaryOperation<T>::tangent(Pass<T>& pass) const {
  turn(pass, this->input(pass.tangent), false, this->make(pass.tangent, pass));
}

template <class T>
void RotaryOperation<T>::turn_back(Pass<T>& pass, std::vector<Numbers<T>>& gradients) const {
  const Numbers<T> d_in = pass.take(this->size(pass));
  turn(pass, this->result(gradients), true, d_in.get());
  this->add(gradients, pass, 0, d_in, this->size(pass));
}

template struct RotaryTable<float>;
template struct RotaryTable<double>;
template class RotaryOperation<float>;
template class RotaryOperation<double>;

}  // namespace pf2lora::native
