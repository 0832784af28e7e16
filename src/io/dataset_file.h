// dataset.h5, the tokenised examples that jobs/prepare.py writes.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pf2lora {

// What is learned of an example: its class, a number, the span of its tokens that answers a question, or the
// tokens that follow a prompt.
enum class Task { classification, regression, span, generation };

// All examples of a dataset; N examples with T tokens end to end, C classes, K named clients.
struct TokenDataset {
  Task task = Task::classification;
  std::vector<int32_t> tokens;            // [T]
  std::vector<int64_t> offsets;           // [N + 1]: example i is tokens [offsets[i], offsets[i + 1])
  std::vector<int32_t> labels;            // [N], in [0, C)
  std::vector<int8_t> token_types;        // [T], or empty: all 0
  std::vector<float> values;              // [N] of a regression, else empty
  std::vector<int32_t> spans;             // [N * 2] of answers, else empty: first and last token in the example
  std::vector<int32_t> targets;           // [N] of generation, else empty: first token of what is generated
  std::vector<int8_t> split;              // [N]: 0 train, 1 validation, 2 test
  std::vector<std::string> class_names;   // [C]
  std::vector<int32_t> client;            // [N] in [0, K), or empty
  std::vector<std::string> client_names;  // [K]
  std::string name, tokenizer, tokenizer_sha256, source, licence;
  int64_t max_length = 0, vocabulary_size = 0;
  std::string sha256;  // of the files that the dataset was made from

  int64_t size() const { return static_cast<int64_t>(labels.size()); }
  std::span<const int32_t> example(int64_t i) const {
    return std::span(tokens).subspan(
        static_cast<size_t>(offsets[static_cast<size_t>(i)]),
        static_cast<size_t>(offsets[static_cast<size_t>(i) + 1] - offsets[static_cast<size_t>(i)]));
  }
};

// Reads and checks a dataset; anything that is missing, damaged or out of range is an InputError that names
// the file, the example (counted from 0) and the value.
TokenDataset read_dataset(const std::string& path);

}  // namespace pf2lora
