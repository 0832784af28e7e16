// Packed batches: the real tokens of all examples of G clients end to end, no padding.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace pf2lora {

// G clients, N examples, T tokens.
struct Batch {
  std::vector<int64_t> clients;         // [G] client numbers
  std::vector<int64_t> examples;        // [N] dataset rows, client after client
  std::vector<int64_t> client_offsets;  // [G + 1] into examples
  std::vector<int64_t> token_offsets;   // [N + 1] into tokens
  std::vector<int32_t> tokens;          // [T]
  std::vector<int32_t> labels;          // [N]
};

// Packs rows_by_client[g] of every clients[g]. The spans are the dataset's: tokens of row i are
// tokens[offsets[i] .. offsets[i + 1]), its class labels[i]. A row that is not in the dataset, or lists of
// unequal length, is invalid_argument.
Batch pack(std::span<const int64_t> clients, const std::vector<std::vector<int64_t>>& rows_by_client,
           std::span<const int32_t> tokens, std::span<const int64_t> offsets,
           std::span<const int32_t> labels);

// Those examples of a batch, by their place in it, as a batch of one client.
Batch take_examples(const Batch& batch, std::span<const size_t> places);

// The examples of its client g alone.
Batch take_client(const Batch& batch, size_t g);

}  // namespace pf2lora
