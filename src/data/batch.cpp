#include "data/batch.h"

#include <array>
#include <numeric>
#include <stdexcept>
#include <string>

namespace pf2lora {
namespace {

// Nothing where the column is empty.
template <class T>
void append(std::vector<T>& to, std::span<const T> column, int64_t begin, int64_t count) {
  if (column.empty()) return;
  const auto part = column.subspan(size_t(begin), size_t(count));
  to.insert(to.end(), part.begin(), part.end());
}

}  // namespace

Batch pack(std::span<const int64_t> clients, const std::vector<std::vector<int64_t>>& rows_by_client,
           const ExampleColumns& dataset) {
  const auto& [tokens, offsets, labels, token_types, values, spans, targets] = dataset;
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
    append(batch.token_types, token_types, offsets[row], offsets[row + 1] - offsets[row]);
    append(batch.labels, labels, row, 1);
    append(batch.values, values, row, 1);
    append(batch.spans, spans, 2 * row, 2);
    append(batch.targets, targets, row, 1);
  }
  return batch;
}

Batch take_examples(const Batch& batch, std::span<const size_t> places) {
  std::vector<std::vector<int64_t>> rows(1);
  for (const size_t place : places) rows[0].push_back(int64_t(place));
  const std::array<int64_t, 1> client = {0};
  Batch taken = pack(client, rows,
                     {batch.tokens, batch.token_offsets, batch.labels, batch.token_types, batch.values,
                      batch.spans, batch.targets});
  for (int64_t& example : taken.examples) example = batch.examples[size_t(example)];
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

Batch take_prompts(const Batch& batch) {
  Batch prompts{.clients = batch.clients, .examples = batch.examples, .client_offsets = batch.client_offsets};
  prompts.token_offsets.push_back(0);
  for (size_t i = 0; i < batch.examples.size(); ++i) {
    const auto begin = batch.tokens.begin() + batch.token_offsets[i];
    prompts.tokens.insert(prompts.tokens.end(), begin, begin + batch.targets[i]);
    prompts.token_offsets.push_back(int64_t(prompts.tokens.size()));
  }
  return prompts;
}

}  // namespace pf2lora
