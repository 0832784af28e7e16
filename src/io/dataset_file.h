// dataset.h5, the tokenised examples that jobs/prepare.py writes.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pf2lora {

// What is learned: a class, a number, where a text answers a question, or what to write after a prompt.
enum class Task { classification, regression, span, generation };
std::string task_name(Task task);  // as the file has it: "classification"

// All examples of a dataset; N examples with T tokens end to end, C classes, K named clients. Columns that a
// task does not have are empty.
struct TokenDataset {
  Task task = Task::classification;
  std::vector<int32_t> tokens;            // [T]
  std::vector<int64_t> offsets;           // [N + 1]: example i is tokens [offsets[i], offsets[i + 1])
  std::vector<int32_t> labels;            // [N], in [0, C): the class, or what partitions go by
  std::vector<int8_t> split;              // [N]: 0 train, 1 validation, 2 test
  std::vector<std::string> class_names;   // [C]
  std::vector<int32_t> client;            // [N] in [0, K), or empty
  std::vector<std::string> client_names;  // [K]
  std::vector<int8_t> token_types;        // [T], or empty where all are 0
  std::vector<float> values;              // [N] of a regression
  std::vector<int32_t> span;    // [N, 2] first and last token of the answer in the example; 0, 0: not in it
  std::vector<int32_t> context;  // [N, 2] first and last token of a span's context in the example
  std::vector<int32_t> target;  // [N] first token of the example that a generation learns
  std::vector<int32_t> item;    // [N] in [0, items): the question or prompt of a span or generation
  int64_t items = 0;
  std::string metrics;  // "accuracy,f1"
  std::string name, tokenizer, tokenizer_sha256, source, licence;
  int64_t max_length = 0, vocabulary_size = 0;
  std::string sha256;  // of the files that the dataset was made from

  int64_t size() const { return static_cast<int64_t>(labels.size()); }
  int64_t length(int64_t i) const {
    return offsets[static_cast<size_t>(i) + 1] - offsets[static_cast<size_t>(i)];
  }
  std::span<const int32_t> example(int64_t i) const {
    return std::span(tokens).subspan(static_cast<size_t>(offsets[static_cast<size_t>(i)]),
                                     static_cast<size_t>(length(i)));
  }
};

// Reads and checks a dataset, the texts of items aside; anything that is missing, damaged or out of range is
// an InputError that names the file, the example (counted from 0) and the value.
TokenDataset read_dataset(const std::string& path);

}  // namespace pf2lora
