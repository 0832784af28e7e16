// Packed batches: the real tokens of all examples of G clients end to end, no padding.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace pf2lora {

// G clients, N examples, T tokens. What a task has no use for is empty.
struct Batch {
  std::vector<int64_t> clients;         // [G] client numbers
  std::vector<int64_t> examples;        // [N] dataset rows, client after client
  std::vector<int64_t> client_offsets;  // [G + 1] into examples
  std::vector<int64_t> token_offsets;   // [N + 1] into tokens
  std::vector<int32_t> tokens;          // [T]
  std::vector<int8_t> token_types;      // [T]; empty: all 0
  std::vector<int32_t> labels;          // [N] classes
  std::vector<float> values;            // [N] to be predicted (regression)
  std::vector<int32_t> spans;           // [N * 2] first and last token of the answer, within the example
  std::vector<int32_t> targets;         // [N] first token to be generated, within the example, at least 1

  int64_t length(size_t example) const { return token_offsets[example + 1] - token_offsets[example]; }
};

// Columns of a dataset of D rows, as Batch has them: tokens of row i are tokens[offsets[i] .. offsets[i + 1]).
struct ExampleColumns {
  std::span<const int32_t> tokens;
  std::span<const int64_t> offsets;  // [D + 1]
  std::span<const int32_t> labels;   // [D]
  std::span<const int8_t> token_types = {};
  std::span<const float> values = {};
  std::span<const int32_t> spans = {};
  std::span<const int32_t> targets = {};
};

// Packs rows_by_client[g] of every clients[g]. A row that is not in the dataset, or lists of unequal length,
// is invalid_argument.
Batch pack(std::span<const int64_t> clients, const std::vector<std::vector<int64_t>>& rows_by_client,
           const ExampleColumns& dataset);

// Those examples of a batch, by their place in it, as a batch of one client.
Batch take_examples(const Batch& batch, std::span<const size_t> places);

// The examples of its client g alone.
Batch take_client(const Batch& batch, size_t g);

// Of each example the tokens before its target, and nothing of what follows.
Batch take_prompts(const Batch& batch);

}  // namespace pf2lora
