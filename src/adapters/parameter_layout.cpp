#include "adapters/parameter_layout.h"

#include <functional>
#include <numeric>
#include <stdexcept>

namespace pf2lora {

size_t ParameterLayout::add(std::string name, std::vector<int64_t> shape) {
  const int64_t size = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  slices_.push_back({std::move(name), std::move(shape), size_, size});
  size_ += size;
  return slices_.size() - 1;
}

int64_t ParameterLayout::append(const ParameterLayout& other, const std::string& prefix) {
  const int64_t offset = size_;
  for (const Slice& slice : other.slices()) add(prefix + slice.name, slice.shape);
  return offset;
}

const Slice& ParameterLayout::find(const std::string& name) const {
  for (const Slice& slice : slices_)
    if (slice.name == name) return slice;
  throw std::out_of_range("no slice is called " + name);
}

torch::Tensor view(const torch::Tensor& rows, const Slice& slice) {
  std::vector<int64_t> shape = {rows.size(0)};
  shape.insert(shape.end(), slice.shape.begin(), slice.shape.end());
  return rows.narrow(1, slice.offset, slice.size).view(shape);
}

}  // namespace pf2lora
