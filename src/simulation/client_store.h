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
  void keep(int64_t client, torch::Tensor row) { rows_[client] = std::move(row); }
  void drop(int64_t client) { rows_.erase(client); }
  // The bytes of a kept row, for moving it.
  std::span<std::byte> bytes(int64_t client);

  // Rows of the group's clients with the common row [common layout] copied to each.
  ClientGroup group(const std::vector<int64_t>& clients, const torch::Tensor& common) const;
  void keep(const ClientGroup& group);

 private:
  const Algorithm& algorithm_;
  torch::TensorOptions options_;
  std::unordered_map<int64_t, torch::Tensor> rows_;
};

}  // namespace pf2lora
