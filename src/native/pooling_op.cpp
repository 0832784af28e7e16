#include "native/pooling_op.h"

#include <algorithm>

namespace pf2lora::native {

template <class T>
void PoolingOperation<T>::spread(Pass<T>& pass, std::vector<Numbers<T>>& gradients) const {
  const int64_t count = pass.batch.rows(Per::token) * this->width;
  const Destination<T> d_tokens = this->destination(gradients, pass, 0, count);
  if (!d_tokens.add) std::fill_n(d_tokens.data, count, T(0));
  add_gradient(pass.batch, this->result(gradients), d_tokens.data);
}

template <class T>
void FirstOperation<T>::pool(const BatchShape& batch, const T* tokens, T* examples) const {
  for (int64_t i = 0; i < batch.examples(); ++i)
    std::copy_n(tokens + batch.token_offsets[size_t(i)] * this->width, this->width,
                examples + i * this->width);
}

template <class T>
void FirstOperation<T>::add_gradient(const BatchShape& batch, const T* d_examples, T* d_tokens) const {
  const int64_t width = this->width;
  for (int64_t i = 0; i < batch.examples(); ++i) {
    T* to = d_tokens + batch.token_offsets[size_t(i)] * width;
    for (int64_t j = 0; j < width; ++j) to[j] += d_examples[i * width + j];
  }
}

template <class T>
void MeanOperation<T>::pool(const BatchShape& batch, const T* tokens, T* examples) const {
  const int64_t width = this->width;
  for (int64_t i = 0; i < batch.examples(); ++i) {
    const int64_t begin = batch.token_offsets[size_t(i)], end = batch.token_offsets[size_t(i) + 1];
    T* mean = examples + i * width;
    std::fill_n(mean, width, T(0));
    for (int64_t row = begin; row < end; ++row)
      for (int64_t j = 0; j < width; ++j) mean[j] += tokens[row * width + j];
    for (int64_t j = 0; j < width; ++j) mean[j] /= T(end - begin);
  }
}

template <class T>
void MeanOperation<T>::add_gradient(const BatchShape& batch, const T* d_examples, T* d_tokens) const {
  const int64_t width = this->width;
  for (int64_t i = 0; i < batch.examples(); ++i) {
    const int64_t begin = batch.token_offsets[size_t(i)], end = batch.token_offsets[size_t(i) + 1];
    for (int64_t row = begin; row < end; ++row)
      for (int64_t j = 0; j < width; ++j)
        d_tokens[row * width + j] += d_examples[i * width + j] / T(end - begin);
  }
}

template <class T>
void TargetOperation<T>::pool(const BatchShape& batch, const T* tokens, T* targets) const {
  for (const int64_t row : batch.target_rows)
    targets = std::copy_n(tokens + row * this->width, this->width, targets);
}

template <class T>
void TargetOperation<T>::add_gradient(const BatchShape& batch, const T* d_targets, T* d_tokens) const {
  for (const int64_t row : batch.target_rows)
    for (T *to = d_tokens + row * this->width, *end = to + this->width; to != end; ++to) *to += *d_targets++;
}

template class PoolingOperation<float>;
template class PoolingOperation<double>;
template class FirstOperation<float>;
template class FirstOperation<double>;
template class MeanOperation<float>;
template class MeanOperation<double>;
template class TargetOperation<float>;
template class TargetOperation<double>;

}  // namespace pf2lora::native
