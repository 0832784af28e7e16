#include "io/dataset_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "io/hdf5_file.h"

namespace pf2lora {
namespace {

constexpr const char* kDatasetFormat = "pf2lora-dataset";
constexpr int64_t kDatasetVersion = 2;
constexpr std::array<const char*, 4> kTasks = {"classification", "regression", "span", "generation"};

// Failures of one dataset file.
class Complaint {
 public:
  explicit Complaint(std::string path) : path_(std::move(path)) {}

  InputError file(const std::string& what) const {
    return InputError("dataset '" + path_ + "': " + what + "; prepare the file again with jobs/prepare.py");
  }
  InputError other(const std::string& what) const {
    return InputError("'" + path_ + "' is no dataset: " + what + "; name a file that jobs/prepare.py made");
  }
  InputError row(int64_t example, const std::string& what) const {
    return file("example " + std::to_string(example) + ": " + what);
  }

 private:
  std::string path_;
};

// A dataset of one axis, or of two when it has `columns`; `wanted` is its required length, or -1.
template <class T>
std::vector<T> read_column(const Hdf5File& file, const Complaint& complaint, const std::string& name,
                           int64_t wanted, int64_t columns = 0) {
  if (!file.exists(name)) throw complaint.file("has no dataset '" + name + "'");
  const Shape shape = file.shape(name);
  if (shape.size() != (columns ? 2 : 1)) {
    throw complaint.file("'" + name + "' has " + std::to_string(shape.size()) + " axes instead of " +
                         (columns ? "two" : "one"));
  }
  if (columns && shape[1] != columns) {
    throw complaint.file("'" + name + "' has " + std::to_string(shape[1]) + " columns instead of " +
                         std::to_string(columns));
  }
  if (wanted >= 0 && shape[0] != wanted) {
    throw complaint.file("'" + name + "' has " + std::to_string(shape[0]) + " entries instead of " +
                         std::to_string(wanted));
  }
  if (!file.holds<T>(name)) throw complaint.file("'" + name + "' is stored as another type than it must be");
  return file.read<T>(name);
}

template <class T>
T read_attribute(const Hdf5File& file, const Complaint& complaint, const std::string& name) {
  if (!file.has_attribute("/", name)) throw complaint.file("has no attribute '" + name + "'");
  try {
    return file.attribute<T>("/", name);
  } catch (const InputError&) {
    throw complaint.file("attribute '" + name + "' is not " +
                         (std::is_same_v<T, int64_t> ? "an integer" : "a text"));
  }
}

// The command that makes a dataset file of this name.
std::string preparation(const std::string& path) {
  const bool wordnet = std::filesystem::path(path).stem() == "wordnet";
  return ".venv/bin/python jobs/prepare.py " + std::string(wordnet ? "wordnet" : "DATASET") + " --output " +
         path + (wordnet ? "" : " (what DATASET may be: jobs/prepare.py --help)");
}

Hdf5File open_dataset_file(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    throw InputError("dataset '" + path + "' does not exist; check --data, or make it with " +
                     preparation(path));
  try {
    return Hdf5File::open(path);
  } catch (const InputError& error) {
    throw InputError("dataset " + std::string(error.what()) + ", or prepare it with jobs/prepare.py");
  }
}

int64_t positive_attribute(const Hdf5File& file, const Complaint& complaint, const std::string& name) {
  const auto value = read_attribute<int64_t>(file, complaint, name);
  if (value <= 0)
    throw complaint.file("attribute '" + name + "' is " + std::to_string(value) + ", not positive");
  return value;
}

void check_format(const Hdf5File& file, const Complaint& complaint) {
  const auto format = read_attribute<std::string>(file, complaint, "format");
  if (format != kDatasetFormat) {
    throw complaint.other("its format is '" + format + "' and not '" + kDatasetFormat + "'");
  }
  const auto version = read_attribute<int64_t>(file, complaint, "format_version");
  if (version != kDatasetVersion) {
    throw complaint.file("attribute 'format_version' is " + std::to_string(version) +
                         ", but this program reads " + std::to_string(kDatasetVersion));
  }
}

Task read_task(const Hdf5File& file, const Complaint& complaint) {
  const auto name = read_attribute<std::string>(file, complaint, "task");
  const auto found = std::find(kTasks.begin(), kTasks.end(), name);
  if (found == kTasks.end()) {
    throw complaint.file("attribute 'task' is '" + name +
                         "', none of classification, regression, span, generation");
  }
  return static_cast<Task>(found - kTasks.begin());
}

// First and last token of each example that has a place in the context, [N, 2]; -1, -1 where none has.
std::vector<int32_t> read_contexts(const Hdf5File& file, const Complaint& complaint,
                                   const TokenDataset& data) {
  const auto characters =
      read_column<int32_t>(file, complaint, "token_characters", static_cast<int64_t>(data.tokens.size()), 2);
  std::vector<int32_t> contexts(2 * data.labels.size(), -1);
  for (size_t i = 0; i < data.labels.size(); ++i)
    for (int64_t t = data.offsets[i]; t < data.offsets[i + 1]; ++t) {
      if (characters[static_cast<size_t>(2 * t)] < 0) continue;
      int32_t* context = &contexts[2 * i];
      const auto place = static_cast<int32_t>(t - data.offsets[i]);
      if (context[0] < 0) context[0] = place;
      context[1] = place;
    }
  return contexts;
}

// What a task has beside tokens and labels.
void read_task_columns(const Hdf5File& file, const Complaint& complaint, TokenDataset& data) {
  if (file.exists("token_types")) {
    data.token_types =
        read_column<int8_t>(file, complaint, "token_types", static_cast<int64_t>(data.tokens.size()));
  }
  if (data.task == Task::regression) {
    data.values = read_column<float>(file, complaint, "values", data.size());
  }
  if (data.task == Task::span) {
    data.span = read_column<int32_t>(file, complaint, "span", data.size(), 2);
    data.context = read_contexts(file, complaint, data);
  }
  if (data.task == Task::generation) {
    data.target = read_column<int32_t>(file, complaint, "target", data.size());
  }
  if (data.task == Task::span || data.task == Task::generation) {
    data.item = read_column<int32_t>(file, complaint, "item", data.size());
    if (!file.exists("item_id")) throw complaint.file("has no dataset 'item_id'");
    const Shape shape = file.shape("item_id");
    data.items = shape.empty() ? 0 : shape[0];
  }
}

void check_sha256(const Complaint& complaint, const std::string& name, const std::string& value) {
  if (value.size() != 64 || value.find_first_not_of("0123456789abcdef") != std::string::npos) {
    throw complaint.file("attribute '" + name + "' is '" + value +
                         "', not a SHA-256 of 64 hexadecimal digits");
  }
}

void check_offsets(const TokenDataset& data, const Complaint& complaint) {
  if (data.offsets.front() != 0) {
    throw complaint.row(0, "starts at token " + std::to_string(data.offsets.front()) + " instead of 0");
  }
  const auto total = static_cast<int64_t>(data.tokens.size());
  for (int64_t i = 0; i < data.size(); ++i) {
    const int64_t begin = data.offsets[static_cast<size_t>(i)],
                  end = data.offsets[static_cast<size_t>(i) + 1];
    if (end < begin) {
      throw complaint.row(
          i, "ends at token " + std::to_string(end) + ", before its start " + std::to_string(begin));
    }
    if (end > total) {
      throw complaint.row(
          i, "ends at token " + std::to_string(end) + ", but there are " + std::to_string(total));
    }
    if (end == begin) throw complaint.row(i, "is empty (0 tokens)");
    if (end - begin > data.max_length) {
      throw complaint.row(i, "has " + std::to_string(end - begin) + " tokens, more than max_length " +
                                 std::to_string(data.max_length));
    }
  }
  if (data.offsets.back() != total) {
    throw complaint.row(data.size() - 1, "ends at token " + std::to_string(data.offsets.back()) +
                                             ", but there are " + std::to_string(total));
  }
}

void check_rows(const TokenDataset& data, const Complaint& complaint) {
  const auto outside = [](int64_t value, int64_t end) { return value < 0 || value >= end; };
  const auto classes = static_cast<int64_t>(data.class_names.size());
  const auto clients = static_cast<int64_t>(data.client_names.size());
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto row = static_cast<size_t>(i);
    for (const int32_t token : data.example(i)) {
      if (outside(token, data.vocabulary_size)) {
        throw complaint.row(i, "token " + std::to_string(token) + " is outside the vocabulary of " +
                                   std::to_string(data.vocabulary_size));
      }
    }
    if (outside(data.labels[row], classes)) {
      throw complaint.row(i, "label " + std::to_string(data.labels[row]) + " is outside the " +
                                 std::to_string(classes) + " classes");
    }
    if (outside(data.split[row], 3)) {
      throw complaint.row(
          i, "split " + std::to_string(data.split[row]) + " is none of 0 (train), 1 (validation), 2 (test)");
    }
    if (!data.client.empty() && outside(data.client[row], clients)) {
      throw complaint.row(i, "client " + std::to_string(data.client[row]) + " is outside the " +
                                 std::to_string(clients) + " client names");
    }
  }
}

void check_task_columns(const TokenDataset& data, const Complaint& complaint) {
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto row = static_cast<size_t>(i);
    const std::string of_tokens = " of its " + std::to_string(data.length(i)) + " tokens";
    if (!data.token_types.empty()) {
      for (int64_t t = data.offsets[row]; t < data.offsets[row + 1]; ++t) {
        const int type = data.token_types[static_cast<size_t>(t)];
        if (type < 0) throw complaint.row(i, "token type " + std::to_string(type) + " is not in [0, 127]");
      }
    }
    if (!data.values.empty() && !std::isfinite(data.values[row])) {
      throw complaint.row(i, "value " + std::to_string(data.values[row]) + " is not finite");
    }
    if (!data.span.empty()) {
      const int32_t first = data.span[2 * row], last = data.span[2 * row + 1];
      if (first < 0 || first > last || last >= data.length(i)) {
        throw complaint.row(i, "span " + std::to_string(first) + " to " + std::to_string(last) +
                                   " is not a span" + of_tokens);
      }
    }
    if (!data.context.empty() && data.context[2 * row] < 0)
      throw complaint.row(i, "no token has a place in the context (token_characters)");
    if (!data.target.empty() && (data.target[row] <= 0 || data.target[row] >= data.length(i))) {
      throw complaint.row(i, "target " + std::to_string(data.target[row]) +
                                 " is not the number of a token after the first" + of_tokens);
    }
    if (!data.item.empty() && (data.item[row] < 0 || data.item[row] >= data.items)) {
      throw complaint.row(i, "item " + std::to_string(data.item[row]) + " is outside the " +
                                 std::to_string(data.items) + " items");
    }
  }
}

}  // namespace

std::string task_name(Task task) {
  return kTasks[static_cast<size_t>(task)];
}

TokenDataset read_dataset(const std::string& path) {
  const Complaint complaint(path);
  const Hdf5File file = open_dataset_file(path);
  check_format(file, complaint);

  TokenDataset data;
  data.task = read_task(file, complaint);
  data.metrics = read_attribute<std::string>(file, complaint, "metrics");
  data.name = read_attribute<std::string>(file, complaint, "name");
  data.tokenizer = read_attribute<std::string>(file, complaint, "tokenizer");
  data.tokenizer_sha256 = read_attribute<std::string>(file, complaint, "tokenizer_sha256");
  data.source = read_attribute<std::string>(file, complaint, "source");
  data.licence = read_attribute<std::string>(file, complaint, "licence");
  data.sha256 = read_attribute<std::string>(file, complaint, "input_sha256");
  data.vocabulary_size = positive_attribute(file, complaint, "vocabulary_size");
  data.max_length = positive_attribute(file, complaint, "max_length");
  check_sha256(complaint, "tokenizer_sha256", data.tokenizer_sha256);
  check_sha256(complaint, "input_sha256", data.sha256);

  data.labels = read_column<int32_t>(file, complaint, "labels", -1);
  if (data.labels.empty()) throw complaint.file("holds no examples");
  data.offsets = read_column<int64_t>(file, complaint, "offsets", data.size() + 1);
  data.split = read_column<int8_t>(file, complaint, "split", data.size());
  data.tokens = read_column<int32_t>(file, complaint, "tokens", -1);
  data.class_names = read_column<std::string>(file, complaint, "class_name", -1);
  if (data.class_names.empty()) throw complaint.file("names no classes");
  if (file.exists("client") != file.exists("client_name")) {
    throw complaint.file("has only one of the datasets 'client' and 'client_name'");
  }
  if (file.exists("client")) {
    data.client = read_column<int32_t>(file, complaint, "client", data.size());
    data.client_names = read_column<std::string>(file, complaint, "client_name", -1);
  }
  check_offsets(data, complaint);
  read_task_columns(file, complaint, data);
  check_rows(data, complaint);
  check_task_columns(data, complaint);
  return data;
}

}  // namespace pf2lora
