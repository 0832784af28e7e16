#include "simulation/client_store.h"

#include <torch/types.h>

#include <algorithm>

namespace pf2lora {
namespace {

constexpr int64_t kSlabBytes = int64_t{1} << 20;  // of rows that are allocated at once
constexpr int64_t kRowBytes = 1024;               // least of a row, about, short or empty: of its tensor

}  // namespace

void ClientStore::copy_row(int64_t client, torch::Tensor row) const {
  if (const auto found = rows_.find(client); found != rows_.end())
    row.copy_(found->second);
  else
    algorithm_.start_client(client, row.zero_());
}

torch::Tensor ClientStore::row(int64_t client) const {
  const auto row = torch::empty({algorithm_.client_layout().size()}, options_);
  copy_row(client, row);
  return row;
}

torch::Tensor ClientStore::kept_row(int64_t client) {
  if (const auto found = rows_.find(client); found != rows_.end()) return found->second;
  if (free_.empty()) {
    const int64_t size = algorithm_.client_layout().size();
    const int64_t bytes = size * int64_t(options_.dtype().itemsize());
    for (const torch::Tensor& row :
         torch::empty({1 + kSlabBytes / std::max(bytes, kRowBytes), size}, options_).unbind())
      free_.push_back(row);
  }
  const torch::Tensor row = free_.back();
  free_.pop_back();
  rows_.emplace(client, row);
  return row;
}

void ClientStore::drop(int64_t client) {
  const auto found = rows_.find(client);
  if (found == rows_.end()) return;
  free_.push_back(found->second);
  rows_.erase(found);
}

std::span<std::byte> ClientStore::bytes(int64_t client) {
  const torch::Tensor& row = rows_.at(client);
  return {static_cast<std::byte*>(row.data_ptr()), row.nbytes()};
}

ClientGroup ClientStore::group(const std::vector<int64_t>& clients, const torch::Tensor& common) const {
  const auto count = int64_t(clients.size());
  const auto own = torch::empty({count, algorithm_.client_layout().size()}, options_);
  for (int64_t g = 0; g < count; ++g) copy_row(clients[size_t(g)], own[g]);
  return {clients, common.unsqueeze(0).repeat({count, 1}), own};
}

void ClientStore::keep(const ClientGroup& group) {
  for (size_t g = 0; g < group.clients.size(); ++g) kept_row(group.clients[g]).copy_(group.own[int64_t(g)]);
}

}  // namespace pf2lora
