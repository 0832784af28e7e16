#include "io/checkpoint.h"

#include "core/error.h"
#include "io/atomic_file.h"

namespace pf2lora {
namespace {

constexpr const char* kCheckpointFormat = "pf2lora-checkpoint";
constexpr int64_t kCheckpointVersion = 1;

std::string text_path(const std::string& name) {
  return "texts/" + name;
}
std::string array_path(const std::string& name) {
  return "arrays/" + name;
}
constexpr const char* kClients = "clients/id";
constexpr const char* kRows = "clients/rows";

Error checkpoint_misuse(const std::string& what) {
  return Error(ExitCode::internal_error, "checkpoint: " + what);
}

InputError unusable(const std::string& path, const std::string& what) {
  return InputError("checkpoint '" + path + "' " + what +
                    "; take another one with --output, or start again with --overwrite");
}

Hdf5File open_checkpoint(const std::string& path) {
  Hdf5File file = Hdf5File::open(path);
  if (!file.has_attribute("/", "format") || file.attribute<std::string>("/", "format") != kCheckpointFormat) {
    throw unusable(path, "is not a checkpoint of this program");
  }
  const auto version = file.attribute<int64_t>("/", "format_version");
  if (version != kCheckpointVersion) {
    throw unusable(path, "has format version " + std::to_string(version) + ", but this program reads " +
                             std::to_string(kCheckpointVersion));
  }
  return file;
}

}  // namespace

CheckpointWriter::CheckpointWriter(const std::string& path, int64_t round)
    : path_(path), file_(Hdf5File::create(partial_path(path))) {
  try {
    file_->set_attribute("/", "format", std::string(kCheckpointFormat));
    file_->set_attribute("/", "format_version", kCheckpointVersion);
    file_->set_attribute("/", "round", round);
    file_->make_group("texts");
    file_->make_group("arrays");
  } catch (...) {
    discard_partial(path_);
    throw;
  }
}

CheckpointWriter::~CheckpointWriter() {
  if (!file_) return;
  file_.reset();
  discard_partial(path_);
}

void CheckpointWriter::put_text(const std::string& name, const std::string& text) {
  file_->write<std::string>(text_path(name), std::span(&text, 1), {});
}

template <class T>
void CheckpointWriter::put_array(const std::string& name, std::span<const T> values) {
  file_->write<T>(array_path(name), values, {static_cast<int64_t>(values.size())}, Storage::checked);
}

template <class T>
void CheckpointWriter::declare_client_rows(std::span<const int64_t> clients, int64_t length) {
  const auto count = static_cast<int64_t>(clients.size());
  for (int64_t row = 0; row < count; ++row) {
    if (!missing_rows_.emplace(clients[static_cast<size_t>(row)], row).second) {
      throw checkpoint_misuse("client " + std::to_string(clients[static_cast<size_t>(row)]) +
                              " is declared twice");
    }
  }
  row_length_ = length;
  file_->write<int64_t>(kClients, clients, {count}, Storage::checked);
  file_->create_rows<T>(kRows, {count, length}, Storage::checked);
}

template <class T>
void CheckpointWriter::put_client_row(int64_t client, std::span<const T> row) {
  const auto found = missing_rows_.find(client);
  if (found == missing_rows_.end()) {
    throw checkpoint_misuse("client " + std::to_string(client) +
                            " was not declared, or its row was given before");
  }
  if (static_cast<int64_t>(row.size()) != row_length_) {
    throw checkpoint_misuse("client " + std::to_string(client) + " was given " + std::to_string(row.size()) +
                            " values for a row of " + std::to_string(row_length_));
  }
  file_->write_rows<T>(kRows, found->second, row);
  missing_rows_.erase(found);
}

void CheckpointWriter::commit() {
  if (!missing_rows_.empty()) {
    throw checkpoint_misuse("the row of client " + std::to_string(missing_rows_.begin()->first) +
                            " was never given");
  }
  file_->close();
  commit_partial(path_);
  file_.reset();
}

CheckpointReader::CheckpointReader(const std::string& path) : file_(open_checkpoint(path)) {
  round_ = file_.attribute<int64_t>("/", "round");
  if (!file_.exists(kRows)) return;
  const std::vector<int64_t> ids = file_.read<int64_t>(kClients);
  const Shape shape = file_.shape(kRows);
  if (shape.size() != 2 || shape[0] != static_cast<int64_t>(ids.size())) {
    throw unusable(path, "holds a table of client rows that does not fit its " + std::to_string(ids.size()) +
                             " clients");
  }
  row_length_ = shape[1];
  for (size_t row = 0; row < ids.size(); ++row) {
    if (!rows_.emplace(ids[row], static_cast<int64_t>(row)).second) {
      throw unusable(path, "lists client " + std::to_string(ids[row]) + " twice");
    }
  }
}

bool CheckpointReader::has_text(const std::string& name) const {
  return file_.exists(text_path(name));
}

std::string CheckpointReader::text(const std::string& name) const {
  if (!has_text(name)) throw unusable(file_.path(), "has no text '" + name + "'");
  const std::vector<std::string> texts = file_.read<std::string>(text_path(name));
  if (texts.size() != 1) throw unusable(file_.path(), "has no single text '" + name + "'");
  return texts[0];
}

std::vector<std::string> CheckpointReader::text_names() const {
  return file_.children("texts");
}

bool CheckpointReader::has_array(const std::string& name) const {
  return file_.exists(array_path(name));
}

template <class T>
std::vector<T> CheckpointReader::array(const std::string& name) const {
  if (!has_array(name)) throw unusable(file_.path(), "has no array '" + name + "'");
  return file_.read<T>(array_path(name));
}

std::vector<int64_t> CheckpointReader::clients() const {
  std::vector<int64_t> ids;
  for (const auto& [client, row] : rows_) ids.push_back(client);
  return ids;
}

template <class T>
std::vector<T> CheckpointReader::client_row(int64_t client) const {
  const auto found = rows_.find(client);
  if (found == rows_.end()) {
    throw unusable(file_.path(), "has no row of client " + std::to_string(client));
  }
  return file_.read_rows<T>(kRows, found->second, 1);
}

#define PF2LORA_ARRAY(T)                                                                \
  template void CheckpointWriter::put_array<T>(const std::string&, std::span<const T>); \
  template std::vector<T> CheckpointReader::array<T>(const std::string&) const;
#define PF2LORA_ROW(T)                                                                       \
  PF2LORA_ARRAY(T)                                                                           \
  template void CheckpointWriter::declare_client_rows<T>(std::span<const int64_t>, int64_t); \
  template void CheckpointWriter::put_client_row<T>(int64_t, std::span<const T>);            \
  template std::vector<T> CheckpointReader::client_row<T>(int64_t) const;
PF2LORA_ARRAY(int32_t)
PF2LORA_ARRAY(int64_t)
PF2LORA_ROW(float)
PF2LORA_ROW(double)
#undef PF2LORA_ROW
#undef PF2LORA_ARRAY

}  // namespace pf2lora
