#include "native/head_op.h"

#include <algorithm>
#include <array>

namespace pf2lora::native {
namespace {

struct Share {  // of one client
  size_t client;
  int64_t begin, rows;
};

std::vector<Share> shares(const BatchShape& batch, Per per) {
  std::vector<Share> shares;
  for (int64_t g = 0; g < batch.clients(); ++g)
    shares.push_back({size_t(g), batch.begin(per, g), batch.begin(per, g + 1) - batch.begin(per, g)});
  return shares;
}

// left^T right over `rows` rows: left [rows, columns_left], right [rows, columns].
template <class T>
Term<T> transposed_times(const T* left, int64_t columns_left, int64_t rows, const T* right, int64_t columns,
                         int64_t panel) {
  return {right == nullptr ? nullptr : left, 1, columns_left, rows, right, columns, panel};
}

template <class T>
void sum_rows(const T* x, int64_t rows, int64_t columns, T* sum) {
  std::fill_n(sum, columns, T(0));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) sum[j] += x[i * columns + j];
}

template <class T>
const T* from(const T* data, int64_t offset) {
  return data == nullptr ? nullptr : data + offset;
}

}  // namespace

template <class T>
void HeadOperation<T>::value(Pass<T>& pass) const {
  const int64_t out = this->width, panel = pass.kernels.panel;
  const T* x = this->input(pass.value);
  T* y = this->make(pass.value, pass);
  for (const Share& share : shares(pass.batch, this->per)) {
    const PackedHead<T>& head = own(pass.adapters.heads, pass, share.client);
    const std::array terms{head.weight.transposed.times(x + share.begin * in_, in_, panel)};
    pass.kernels.product(terms, share.rows, out, {y + share.begin * out, out}, head.bias, false);
  }
}

template <class T>
void HeadOperation<T>::gradient(Pass<T>& pass) const {
  const int64_t out = this->width, panel = pass.kernels.panel;
  const T* x = this->input(pass.value);
  const T* d_y = this->result(pass.gradient);
  Destination<T> d_x;
  if (this->input_is_active[0])
    d_x = this->destination(pass.gradient, pass, 0, pass.batch.rows(this->per) * in_);
  for (const Share& share : shares(pass.batch, this->per)) {
    const T* own_d_y = d_y + share.begin * out;
    const HeadTarget<T>& target = own(pass.target.heads, pass, share.client);
    const std::array terms{transposed_times(own_d_y, out, share.rows, x + share.begin * in_, in_, panel)};
    pass.kernels.product(terms, out, in_, {target.weight, in_}, nullptr, false);
    sum_rows(own_d_y, share.rows, out, target.bias);
    if (d_x.data == nullptr) continue;
    const std::array back{
        own(pass.adapters.heads, pass, share.client).weight.plain.times(own_d_y, out, panel)};
    pass.kernels.product(back, share.rows, in_, {d_x.data + share.begin * in_, in_}, nullptr, d_x.add);
  }
}

template <class T>
void HeadOperation<T>::tangent(Pass<T>& pass) const {
  const int64_t out = this->width, panel = pass.kernels.panel;
  const T* x = this->input(pass.value);
  const T* t_x = this->input(pass.tangent);
  T* t_y = this->make(pass.tangent, pass);
  for (const Share& share : shares(pass.batch, this->per)) {
    const PackedHead<T>& direction = own(pass.direction.heads, pass, share.client);
    const std::array terms{direction.weight.transposed.times(x + share.begin * in_, in_, panel),
                           own(pass.adapters.heads, pass, share.client)
                               .weight.transposed.times(from(t_x, share.begin * in_), in_, panel)};
    pass.kernels.product(terms, share.rows, out, {t_y + share.begin * out, out}, direction.bias, false);
  }
}

template <class T>
void HeadOperation<T>::gradient_tangent(Pass<T>& pass) const {
  const int64_t out = this->width, panel = pass.kernels.panel;
  const T* x = this->input(pass.value);
  const T* t_x = this->input(pass.tangent);
  const T* d_y = this->result(pass.gradient);
  const T* t_d_y = this->result(pass.gradient_tangent);
  Destination<T> t_d_x;
  if (this->input_is_active[0])
    t_d_x = this->destination(pass.gradient_tangent, pass, 0, pass.batch.rows(this->per) * in_);
  for (const Share& share : shares(pass.batch, this->per)) {
    const T* own_d_y = d_y + share.begin * out;
    const T* own_t_d_y = t_d_y + share.begin * out;
    const HeadTarget<T>& target = own(pass.target.heads, pass, share.client);
    const std::array terms{
        transposed_times(own_t_d_y, out, share.rows, x + share.begin * in_, in_, panel),
        transposed_times(own_d_y, out, share.rows, from(t_x, share.begin * in_), in_, panel)};
    pass.kernels.product(terms, out, in_, {target.weight, in_}, nullptr, false);
    sum_rows(own_t_d_y, share.rows, out, target.bias);
    if (t_d_x.data == nullptr) continue;
    const std::array back{
        own(pass.adapters.heads, pass, share.client).weight.plain.times(own_t_d_y, out, panel),
        own(pass.direction.heads, pass, share.client).weight.plain.times(own_d_y, out, panel)};
    pass.kernels.product(back, share.rows, in_, {t_d_x.data + share.begin * in_, in_}, nullptr, t_d_x.add);
  }
}

template class HeadOperation<float>;
template class HeadOperation<double>;

}  // namespace pf2lora::native
