// Parameters live in one flat row a client; a layout names the slices of such a row.
#pragma once
#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace pf2lora {

struct Slice {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset = 0;
  int64_t size = 0;
};

// A contiguous range of a row: slices that stand next to each other.
struct Block {
  int64_t offset = 0;
  int64_t size = 0;
};

class ParameterLayout {
 public:
  // Appends a slice and returns its index.
  size_t add(std::string name, std::vector<int64_t> shape);
  // Appends all slices of another layout as one block and returns the offset of the block.
  int64_t append(const ParameterLayout& other, const std::string& prefix = "");

  const std::vector<Slice>& slices() const { return slices_; }
  int64_t size() const { return size_; }
  // The slice of that name; throws std::out_of_range where there is none.
  const Slice& find(const std::string& name) const;

 private:
  std::vector<Slice> slices_;
  int64_t size_ = 0;
};

// A view [G, shape...] of one slice of rows [G, P].
torch::Tensor view(const torch::Tensor& rows, const Slice& slice);

}  // namespace pf2lora
