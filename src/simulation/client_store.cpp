#include "simulation/client_store.h"

#include <torch/torch.h>

namespace pf2lora {

torch::Tensor ClientStore::row(int64_t client) const {
  if (const auto found = rows_.find(client); found != rows_.end()) return found->second.clone();
  auto row = torch::zeros({algorithm_.client_layout().size()}, options_);
  algorithm_.initial_client(client, row);
  return row;
}

std::span<std::byte> ClientStore::bytes(int64_t client) {
  torch::Tensor& row = rows_.at(client);
  return {static_cast<std::byte*>(row.data_ptr()), row.nbytes()};
}

ClientGroup ClientStore::group(const std::vector<int64_t>& clients, const torch::Tensor& common) const {
  std::vector<torch::Tensor> own;
  for (int64_t client : clients) own.push_back(row(client));
  return {clients, common.unsqueeze(0).repeat({int64_t(clients.size()), 1}), torch::stack(own)};
}

void ClientStore::keep(const ClientGroup& group) {
  for (size_t g = 0; g < group.clients.size(); ++g) keep(group.clients[g], group.own[int64_t(g)].clone());
}

}  // namespace pf2lora
