// results.h5 (analysis/FORMAT.md): rows of named variables, kept safe in segment files while a run goes on
// and joined into one file whose every axis is a dimension scale (xarray: engine="h5netcdf").
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "io/hdf5_file.h"

namespace pf2lora {

// Of results.h5 and adapters.h5.
inline constexpr int64_t kResultsFormatVersion = 2;

// The size of a dimension that grows by a row a record: round, evaluation, spectrum. Its coordinates are the
// round numbers of its rows.
inline constexpr int64_t kRecordDimension = -1;

// An axis. Without coordinates its scale holds 0, 1, ..., size - 1; a size of 0 is an axis without entries.
struct Dimension {
  std::string name;
  int64_t size = 0;
  std::variant<std::monostate, std::vector<int64_t>, std::vector<double>, std::vector<std::string>>
      coordinates = {};
  std::string units = {}, description = {};
  // Of a last axis alone: a resumed run may have more entries than before; older rows are continued with 0.
  bool may_grow = false;
};

enum class VariableType { f64, f32, i64, i32, string };

// Units are symbols ("s", "nat", "byte"): xarray would turn "seconds" into another type, so that is refused.
// A record dimension can only be the first; a variable without dimensions is a scalar; strings are static.
struct Variable {
  std::string name;
  std::vector<std::string> dimensions;
  VariableType type = VariableType::f64;
  std::string units = {}, description = {};
};

struct ResultsSchema {
  std::vector<Dimension> dimensions;
  std::vector<Variable> variables;
};

// One variable's values of one row, row-major over the other dimensions. Numbers given for an integer
// variable must be whole; NaN is a missing value.
struct RecordValue {
  std::string name;
  std::variant<std::span<const double>, std::span<const int64_t>> values;
};

// Entries on the last axis of a variable in the segments and results.h5 that stand in `directory`, the most
// of any; 0 where nothing readable stands.
int64_t recorded_width(const std::string& directory, const std::string& record, const std::string& variable);

// Records a run; used on rank 0 alone. Missing values are NaN, for integers netCDF's default fill value, and
// then the variable has the attribute _FillValue. Misuse and failed writing are an Error (exit 1).
class Recorder {
 public:
  // `attributes` become root attributes beside format, format_version and last_round; `options` those of the
  // group `options`. Nothing is written yet, and segments that stand in `directory` are not looked at.
  Recorder(std::string directory, ResultsSchema schema, std::vector<Attribute> attributes,
           std::vector<Attribute> options);

  Recorder(Recorder&&) = default;
  Recorder& operator=(Recorder&&) = default;
  Recorder(const Recorder&) = delete;

  // Values of a static variable, kept for `join`.
  void put(const std::string& name, std::span<const double> values);
  void put(const std::string& name, std::span<const int64_t> values);
  void put(const std::string& name, std::span<const std::string> values);
  // Sets or replaces a root attribute.
  void set_attribute(const std::string& name, const AttributeValue& value);

  // Adds a row to a record dimension, or to its latest row when `coordinate` (a round) is that row's. Rounds
  // grow, and lie after the last flush. Variables that are not given are missing.
  void append(const std::string& record, int64_t coordinate, const std::vector<RecordValue>& values);

  // Writes the rows since the last flush, none of them after `round`, to a closed and fsynced segment file;
  // to be called before the checkpoint of that round is written, with or without new rows.
  void flush(int64_t round);

  // Takes over the rows up to `round`, the round of the checkpoint, and drops later segments: a crash may
  // have come between a segment and its checkpoint. Throws InputError when rows are lost or of another shape.
  void resume(int64_t round);

  // Writes results.h5 out of all segments and buffered rows; can be called at any time, and again.
  void join() const;
  // Removes the segments of a run that is complete, after `join`; `resume` of another run then reads
  // results.h5 itself. This recorder records nothing more.
  void remove_segments();

  std::string path() const { return directory_ + "/results.h5"; }
  int64_t last_round() const { return flushed_.empty() ? -1 : flushed_.back(); }

 private:
  using Values = std::variant<std::vector<double>, std::vector<float>, std::vector<int64_t>,
                              std::vector<int32_t>, std::vector<std::string>>;
  // A variable's rows that are not flushed yet.
  struct Field {
    const Variable* variable;
    Shape row_shape;
    int64_t row_length;
    Values values;
    bool given_last;  // whether the latest row has been given values
  };
  struct Record {
    std::string name;
    std::vector<int64_t> rounds;
    std::vector<Field> fields;
  };
  class JoinedColumn;

  static Values no_values(VariableType type);
  template <class T>
  static void place(const Variable& variable, std::span<const T> from, Values& to, size_t first);
  const Dimension& dimension(const std::string& name) const;
  const Variable& static_variable(const std::string& name) const;
  Shape shape_of(const Variable& variable, size_t first_axis) const;
  void check_schema() const;
  void require_open() const;
  template <class T>
  void put_numbers(const std::string& name, std::span<const T> values);
  void start_row(Record& record, int64_t coordinate);

  std::string segments() const { return directory_ + "/segments"; }
  bool has_segment_chain(int64_t round, std::vector<int64_t>& chain) const;
  void take_over_results(int64_t round) const;
  void write_segment(int64_t round, int64_t previous, const std::vector<Record>& records) const;
  Values read_field(const Hdf5File& file, const std::string& name, const Field& field, int64_t rows) const;
  static std::vector<int64_t> read_rounds(const Hdf5File& file, const std::string& name);
  void write_scales(Hdf5File& file, const std::vector<int64_t>& row_counts) const;
  void write_static(Hdf5File& file) const;
  void describe(Hdf5File& file, const Variable& variable) const;

  std::string directory_;
  ResultsSchema schema_;
  std::vector<Attribute> attributes_, options_;
  std::map<std::string, Values> static_values_;
  std::vector<Record> records_;
  std::vector<int64_t> flushed_;  // rounds of the segments, ascending
  bool complete_ = false;         // the segments were removed
};

}  // namespace pf2lora
