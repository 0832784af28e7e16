#include "data/batch.h"

#include <numeric>
#include <stdexcept>
#include <string>

namespace pf2lora {

Batch pack(std::span<const int64_t> clients, const std::vector<std::vector<int64_t>>& rows_by_client,
           std::span<const int32_t> tokens, std::span<const int64_t> offsets,
           std::span<const int32_t> labels) {
  if (clients.size() != rows_by_client.size())
    throw std::invalid_argument(std::to_string(clients.size()) + " clients with " +
                                std::to_string(rows_by_client.size()) +
                                " lists of examples cannot be packed");
  if (offsets.size() != labels.size() + 1)
    throw std::invalid_argument("a dataset of " + std::to_string(labels.size()) + " labels has " +
                                std::to_string(offsets.size()) + " token offsets instead of one more");
  const auto dataset_rows = static_cast<int64_t>(labels.size());

  Batch batch;
  batch.clients.assign(clients.begin(), clients.end());
  batch.client_offsets.push_back(0);
  int64_t token_count = 0;
  for (const std::vector<int64_t>& rows : rows_by_client) {
    for (const int64_t row : rows) {
      if (row < 0 || row >= dataset_rows)
        throw std::invalid_argument("row " + std::to_string(row) + " is not in the dataset of " +
                                    std::to_string(dataset_rows));
      if (offsets[row] < 0 || offsets[row + 1] < offsets[row] ||
          offsets[row + 1] > static_cast<int64_t>(tokens.size()))
        throw std::invalid_argument("token offsets of row " + std::to_string(row) +
                                    " point outside the tokens");
      token_count += offsets[row + 1] - offsets[row];
      batch.examples.push_back(row);
    }
    batch.client_offsets.push_back(static_cast<int64_t>(batch.examples.size()));
  }

  batch.tokens.reserve(token_count);
  batch.labels.reserve(batch.examples.size());
  batch.token_offsets.reserve(batch.examples.size() + 1);
  batch.token_offsets.push_back(0);
  for (const int64_t row : batch.examples) {
    const auto own = tokens.subspan(offsets[row], offsets[row + 1] - offsets[row]);
    batch.tokens.insert(batch.tokens.end(), own.begin(), own.end());
    batch.token_offsets.push_back(static_cast<int64_t>(batch.tokens.size()));
    batch.labels.push_back(labels[row]);
  }
  return batch;
}

Batch take_examples(const Batch& batch, std::span<const size_t> places) {
  Batch taken;
  taken.clients = {0};
  taken.token_offsets = {0};
  for (const size_t place : places) {
    taken.examples.push_back(batch.examples[place]);
    taken.labels.push_back(batch.labels[place]);
    taken.tokens.insert(taken.tokens.end(), batch.tokens.begin() + batch.token_offsets[place],
                        batch.tokens.begin() + batch.token_offsets[place + 1]);
    taken.token_offsets.push_back(static_cast<int64_t>(taken.tokens.size()));
  }
  taken.client_offsets = {0, static_cast<int64_t>(places.size())};
  return taken;
}

Batch take_client(const Batch& batch, size_t g) {
  const auto begin = static_cast<size_t>(batch.client_offsets[g]);
  std::vector<size_t> places(static_cast<size_t>(batch.client_offsets[g + 1]) - begin);
  std::iota(places.begin(), places.end(), begin);
  Batch taken = take_examples(batch, places);
  taken.clients = {batch.clients[g]};
  return taken;
}

}  // namespace pf2lora
