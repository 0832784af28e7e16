// The clients' own rows that live on this rank.
#pragma once
#include <torch/types.h>

#include <unordered_map>
#include <vector>

#include "algorithm/algorithm.h"

namespace pf2lora {

class ClientStore {
 public:
  explicit ClientStore(const Algorithm& algorithm, const torch::TensorOptions& options)
      : algorithm_(algorithm), options_(options) {}

  // A client's row [client layout]: a copy of what is kept here, or its start values.
  torch::Tensor row(int64_t client) const;
  // The row that is kept for a client from now on, to be filled; what it holds stands where it was kept before.
  torch::Tensor kept_row(int64_t client);
  void drop(int64_t client);
  // The bytes of a kept row, for moving it.
  std::span<std::byte> bytes(int64_t client);

  // Rows of the group's clients with the common row [common layout] copied to each.
  ClientGroup group(const std::vector<int64_t>& clients, const torch::Tensor& common) const;
  void keep(const ClientGroup& group);

 private:
  void copy_row(int64_t client, torch::Tensor row) const;

  const Algorithm& algorithm_;
  torch::TensorOptions options_;
  std::unordered_map<int64_t, torch::Tensor> rows_;
  std::vector<torch::Tensor> free_;  // rows are cut from slabs: one by one they would leave holes in the heap
};

}  // namespace pf2lora
