// checkpoint.h5: the whole state of a run after a round, readable at any number of ranks.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/hdf5_file.h"

namespace pf2lora {

// Writes a checkpoint beside the previous one, which stays whole until `commit` has renamed the new one into
// its place. Destroyed without `commit`, nothing of the new one remains. Every stored number has a checksum.
class CheckpointWriter {
 public:
  // `round`: the number of rounds that are done.
  CheckpointWriter(const std::string& path, int64_t round);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // A named text: options, versions, the algorithm's name.
  void put_text(const std::string& name, const std::string& text);
  // A named array [n] of exactly T (double, float, int32_t, int64_t): common rows, ranks, counters.
  template <class T>
  void put_array(const std::string& name, std::span<const T> values);
  // Declares the one table of client rows, [n, length] of T (double or float), and then one row of it at a
  // time in any order. Ids are distinct; `put_client_row` throws Error for an id outside them or written
  // twice.
  template <class T>
  void declare_client_rows(std::span<const int64_t> clients, int64_t length);
  template <class T>
  void put_client_row(int64_t client, std::span<const T> row);
  // Closes, fsyncs, renames. Throws Error when a declared row is missing or writing fails.
  void commit();

 private:
  std::string path_;
  std::optional<Hdf5File> file_;
  std::map<int64_t, int64_t> missing_rows_;  // client -> row that is not written yet
  int64_t row_length_ = 0;
};

// Reads a checkpoint. Everything that is missing, damaged or of another type is an InputError naming the
// file.
class CheckpointReader {
 public:
  explicit CheckpointReader(const std::string& path);

  int64_t round() const { return round_; }
  bool has_text(const std::string& name) const;
  std::string text(const std::string& name) const;
  std::vector<std::string> text_names() const;
  bool has_array(const std::string& name) const;
  template <class T>
  std::vector<T> array(const std::string& name) const;
  // Ids of the clients with a row, ascending, and the length of a row; both empty or 0 without a table.
  std::vector<int64_t> clients() const;
  int64_t client_row_length() const { return row_length_; }
  // One client's row [length]; T must be the type that was written.
  template <class T>
  std::vector<T> client_row(int64_t client) const;

 private:
  Hdf5File file_;
  int64_t round_ = 0;
  std::map<int64_t, int64_t> rows_;  // client -> row
  int64_t row_length_ = 0;
};

}  // namespace pf2lora
