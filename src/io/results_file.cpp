// The files of Recorder: segments while the run goes on, and results.h5 joined out of them.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <system_error>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/results.h"
#include "io/results_fill.h"
#include "io/segments.h"

namespace pf2lora {
namespace {

constexpr const char* kResultsFormat = "pf2lora-results";
constexpr const char* kSegmentFormat = "pf2lora-segment";

// Where a segment holds a record's variable, or the rounds of its rows under the record's own name.
std::string in_segment(const std::string& record, const std::string& name) {
  return record + "/" + name;
}

bool is_format(const Hdf5File& file, const std::string& format) {
  return file.has_attribute("/", "format") && file.attribute<std::string>("/", "format") == format &&
         file.has_attribute("/", "format_version") &&
         file.attribute<int64_t>("/", "format_version") == kResultsFormatVersion;
}

Hdf5File open_segment(const std::string& path) {
  Hdf5File file = Hdf5File::open(path);
  if (!is_format(file, kSegmentFormat)) {
    throw InputError("'" + path +
                     "' is not a segment of results of this program; start again with --overwrite");
  }
  return file;
}

void set_texts(Hdf5File& file, const std::string& dataset, const std::string& units,
               const std::string& description) {
  if (!description.empty()) file.set_attribute(dataset, "long_name", description);
  if (!units.empty()) file.set_attribute(dataset, "units", units);
}

// How many of the ascending rounds are not after `round`.
int64_t rows_up_to(const std::vector<int64_t>& rounds, int64_t round) {
  return std::upper_bound(rounds.begin(), rounds.end(), round) - rounds.begin();
}

}  // namespace

int64_t recorded_width(const std::string& directory, const std::string& record, const std::string& variable) {
  int64_t width = 0;
  const auto look = [&](const std::string& path, const std::string& name) {
    try {
      const Hdf5File file = Hdf5File::open(path);
      if (file.exists(name) && !file.shape(name).empty()) width = std::max(width, file.shape(name).back());
    } catch (const InputError&) {  // resume says so, if it needs the file
    }
  };
  for (const int64_t segment : list_segments(directory + "/segments")) {
    look(segment_path(directory + "/segments", segment), in_segment(record, variable));
  }
  look(directory + "/results.h5", variable);
  return width;
}

// A record variable of results.h5 while its rows arrive: whole chunks are written, so that none is compressed
// twice.
class Recorder::JoinedColumn {
 public:
  JoinedColumn(Hdf5File& file, const Field& field, int64_t rows)
      : file_(file), field_(field), pending_(no_values(field.variable->type)) {
    Shape shape = field.row_shape;
    shape.insert(shape.begin(), rows);
    std::visit(
        [&](const auto& values) {
          using Element = typename std::decay_t<decltype(values)>::value_type;
          if constexpr (!std::is_same_v<Element, std::string>) {
            file.create_rows<Element>(name(), shape, Storage::compressed);
          }
        },
        pending_);
    chunk_rows_ = file.chunk_rows(name());
  }

  void add(const Values& rows) {
    std::visit(
        [&](auto& pending) {
          const auto& more = std::get<std::decay_t<decltype(pending)>>(rows);
          pending.insert(pending.end(), more.begin(), more.end());
        },
        pending_);
    write(chunk_rows_);
  }

  void finish() {
    write(1);
    std::visit(
        [&](const auto& values) {
          using Element = typename std::decay_t<decltype(values)>::value_type;
          if constexpr (std::is_integral_v<Element>) {
            if (has_missing_) file_.set_fill_attribute<Element>(name(), fill_value<Element>());
          }
        },
        pending_);
  }

 private:
  const std::string& name() const { return field_.variable->name; }

  // Writes the pending rows that fill a multiple of `unit` rows.
  void write(int64_t unit) {
    if (field_.row_length == 0) return;
    std::visit(
        [&](auto& pending) {
          using Element = typename std::decay_t<decltype(pending)>::value_type;
          if constexpr (!std::is_same_v<Element, std::string>) {
            const int64_t rows = static_cast<int64_t>(pending.size()) / field_.row_length / unit * unit;
            const auto end = pending.begin() + rows * field_.row_length;
            if constexpr (std::is_integral_v<Element>) {
              has_missing_ = has_missing_ || std::find(pending.begin(), end, fill_value<Element>()) != end;
            }
            file_.write_rows<Element>(name(), written_, std::span<const Element>(pending.begin(), end));
            pending.erase(pending.begin(), end);
            written_ += rows;
          }
        },
        pending_);
  }

  Hdf5File& file_;
  const Field& field_;
  Values pending_;
  int64_t chunk_rows_ = 1, written_ = 0;
  bool has_missing_ = false;
};

void Recorder::write_segment(int64_t round, int64_t previous, const std::vector<Record>& records) const {
  std::error_code failure;
  if (std::filesystem::create_directory(segments(), failure)) sync_parent_directory(segments());
  if (failure) {
    throw Error(ExitCode::internal_error, "cannot make '" + segments() + "': " + failure.message() +
                                              "; check the output directory's permissions and free space");
  }
  write_atomically(segment_path(segments(), round), [&](Hdf5File& file) {
    file.set_attribute("/", "format", std::string(kSegmentFormat));
    file.set_attribute("/", "format_version", kResultsFormatVersion);
    file.set_attribute("/", "round", round);
    file.set_attribute("/", "previous_round", previous);
    for (const Record& record : records) {
      file.write<int64_t>(in_segment(record.name, record.name), record.rounds);
      for (const Field& field : record.fields) {
        Shape shape = field.row_shape;
        shape.insert(shape.begin(), static_cast<int64_t>(record.rounds.size()));
        std::visit(
            [&](const auto& values) {
              using Element = typename std::decay_t<decltype(values)>::value_type;
              file.write<Element>(in_segment(record.name, field.variable->name),
                                  std::span<const Element>(values), shape, Storage::checked);
            },
            field.values);
      }
    }
  });
}

void Recorder::flush(int64_t round) {
  require_open();
  bool has_rows = false;
  for (const Record& record : records_) {
    if (record.rounds.empty()) continue;
    has_rows = true;
    if (record.rounds.back() > round) {
      throw Error(ExitCode::internal_error, "results: a row of '" + record.name + "' for round " +
                                                std::to_string(record.rounds.back()) +
                                                " is after the flushed round " + std::to_string(round));
    }
  }
  if (round == last_round() && !has_rows) return;
  if (round <= last_round()) {
    throw Error(ExitCode::internal_error, "results: round " + std::to_string(round) +
                                              " was flushed before; the last was " +
                                              std::to_string(last_round()));
  }
  write_segment(round, last_round(), records_);
  flushed_.push_back(round);
  for (Record& record : records_) {
    record.rounds.clear();
    for (Field& field : record.fields) {
      field.values = no_values(field.variable->type);
    }
  }
}

std::vector<int64_t> Recorder::read_rounds(const Hdf5File& file, const std::string& name) {
  std::vector<int64_t> rounds = file.read<int64_t>(name);
  if (!std::is_sorted(rounds.begin(), rounds.end())) {
    throw InputError("'" + name + "' of '" + file.path() + "' does not ascend; the file is damaged, start " +
                     "again with --overwrite");
  }
  return rounds;
}

Recorder::Values Recorder::read_field(const Hdf5File& file, const std::string& name, const Field& field,
                                      int64_t rows) const {
  const Shape shape = file.shape(name);
  Shape row_shape(shape.empty() ? shape.end() : shape.begin() + 1, shape.end());
  const int64_t width = row_shape.empty() ? 1 : row_shape.back();
  if (!row_shape.empty() && !field.row_shape.empty() &&
      dimension(field.variable->dimensions.back()).may_grow) {
    row_shape.back() = std::max(width, field.row_shape.back());
  }
  if (shape.empty() || shape[0] < rows || row_shape != field.row_shape) {
    throw InputError("'" + name + "' of '" + file.path() + "' was recorded with other dimensions than this " +
                     "run's; resume with the options of that run, or start again with --overwrite");
  }
  Values values = no_values(field.variable->type);
  std::visit(
      [&](auto& list) {
        using Element = typename std::decay_t<decltype(list)>::value_type;
        if constexpr (!std::is_same_v<Element, std::string>) {
          list = file.read_rows<Element>(name, 0, rows);
          if (!row_shape.empty()) list = widened(list, width, row_shape.back());
        }
      },
      values);
  return values;
}

bool Recorder::has_segment_chain(int64_t round, std::vector<int64_t>& chain) const {
  const std::vector<int64_t> standing = list_segments(segments());
  chain.clear();
  while (round >= 0) {
    if (!std::binary_search(standing.begin(), standing.end(), round)) return false;
    chain.insert(chain.begin(), round);
    const int64_t previous =
        open_segment(segment_path(segments(), round)).attribute<int64_t>("/", "previous_round");
    if (previous >= round) return false;
    round = previous;
  }
  return true;
}

// Turns the rows up to `round` of a results.h5 whose segments were removed into one segment.
void Recorder::take_over_results(int64_t round) const {
  const auto lost = [&](const std::string& why) {
    return InputError("the rows of results up to round " + std::to_string(round) + " are neither in '" +
                      segments() + "' nor in '" + path() + "' (" + why + "); start again with --overwrite");
  };
  if (!std::filesystem::exists(path())) throw lost("there is no such file");
  const Hdf5File file = Hdf5File::open(path());
  if (!is_format(file, kResultsFormat)) throw lost("it is not a file of results of this version");
  const auto last = file.attribute<int64_t>("/", "last_round");
  if (last < round) throw lost("it ends at round " + std::to_string(last));
  std::vector<Record> records = records_;
  for (Record& record : records) {
    record.rounds = read_rounds(file, record.name);
    record.rounds.resize(static_cast<size_t>(rows_up_to(record.rounds, round)));
    for (Field& field : record.fields) {
      field.values =
          read_field(file, field.variable->name, field, static_cast<int64_t>(record.rounds.size()));
    }
  }
  write_segment(round, -1, records);
}

void Recorder::resume(int64_t round) {
  for (const Record& record : records_) {
    if (!record.rounds.empty() || !flushed_.empty()) {
      throw Error(ExitCode::internal_error, "results: resumed after rows were recorded");
    }
  }
  std::vector<int64_t> chain;
  if (!has_segment_chain(round, chain)) {
    take_over_results(round);
    chain = {round};
  }
  for (const int64_t segment : chain) {  // before anything is removed
    const Hdf5File file = open_segment(segment_path(segments(), segment));
    for (const Record& record : records_) {
      const auto rows = static_cast<int64_t>(read_rounds(file, in_segment(record.name, record.name)).size());
      for (const Field& field : record.fields) {
        read_field(file, in_segment(record.name, field.variable->name), field, rows);
      }
    }
  }
  remove_segment_files(segments(), chain);
  flushed_ = std::move(chain);
}

void Recorder::describe(Hdf5File& file, const Variable& variable) const {
  for (size_t axis = 0; axis < variable.dimensions.size(); ++axis) {
    file.attach_scale(variable.name, static_cast<int>(axis), variable.dimensions[axis]);
  }
  set_texts(file, variable.name, variable.units, variable.description);
}

void Recorder::write_scales(Hdf5File& file, const std::vector<int64_t>& row_counts) const {
  size_t record = 0;
  for (const Dimension& axis : schema_.dimensions) {
    if (axis.size == kRecordDimension) {
      file.create_rows<int64_t>(axis.name, {row_counts[record++]});
    } else if (const auto* texts = std::get_if<std::vector<std::string>>(&axis.coordinates)) {
      file.write<std::string>(axis.name, *texts);
    } else if (const auto* numbers = std::get_if<std::vector<double>>(&axis.coordinates)) {
      file.write<double>(axis.name, *numbers);
    } else if (const auto* integers = std::get_if<std::vector<int64_t>>(&axis.coordinates)) {
      file.write<int64_t>(axis.name, *integers);
    } else {
      std::vector<int64_t> index(static_cast<size_t>(axis.size));
      std::iota(index.begin(), index.end(), 0);
      file.write<int64_t>(axis.name, index);
    }
    file.make_scale(axis.name, axis.name);
    set_texts(file, axis.name, axis.units, axis.description);
  }
}

void Recorder::write_static(Hdf5File& file) const {
  for (const Variable& variable : schema_.variables) {
    if (!variable.dimensions.empty() && dimension(variable.dimensions[0]).size == kRecordDimension) continue;
    const Shape shape = shape_of(variable, 0);
    const auto given = static_values_.find(variable.name);
    Values values = given != static_values_.end() ? given->second : no_values(variable.type);
    std::visit(
        [&](auto& list) {
          using Element = typename std::decay_t<decltype(list)>::value_type;
          const Element missing = fill_value<Element>();
          if (given == static_values_.end()) list.assign(static_cast<size_t>(product(shape)), missing);
          file.write<Element>(variable.name, std::span<const Element>(list), shape);
          if constexpr (std::is_integral_v<Element>) {
            if (std::find(list.begin(), list.end(), missing) != list.end()) {
              file.set_fill_attribute<Element>(variable.name, missing);
            }
          }
        },
        values);
    describe(file, variable);
  }
}

void Recorder::join() const {
  require_open();
  std::vector<int64_t> row_counts;
  for (const Record& record : records_) row_counts.push_back(static_cast<int64_t>(record.rounds.size()));
  for (const int64_t segment : flushed_) {
    const Hdf5File file = open_segment(segment_path(segments(), segment));
    for (size_t r = 0; r < records_.size(); ++r) {
      row_counts[r] += file.shape(in_segment(records_[r].name, records_[r].name)).at(0);
    }
  }
  write_atomically(path(), [&](Hdf5File& file) {
    file.set_attribute("/", "format", std::string(kResultsFormat));
    file.set_attribute("/", "format_version", kResultsFormatVersion);
    file.set_attribute("/", "last_round", last_round());
    for (const Attribute& attribute : attributes_) file.set_attribute("/", attribute.name, attribute.value);
    write_scales(file, row_counts);
    write_static(file);

    std::vector<std::vector<std::unique_ptr<JoinedColumn>>> columns(records_.size());
    for (size_t r = 0; r < records_.size(); ++r) {
      for (const Field& field : records_[r].fields) {
        columns[r].push_back(std::make_unique<JoinedColumn>(file, field, row_counts[r]));
      }
    }
    std::vector<int64_t> first_row(records_.size(), 0);
    const auto add_rounds = [&](size_t r, const std::vector<int64_t>& rounds) {
      file.write_rows<int64_t>(records_[r].name, first_row[r], rounds);
      first_row[r] += static_cast<int64_t>(rounds.size());
    };
    for (const int64_t segment : flushed_) {
      const Hdf5File part = open_segment(segment_path(segments(), segment));
      for (size_t r = 0; r < records_.size(); ++r) {
        const Record& record = records_[r];
        const std::vector<int64_t> rounds = read_rounds(part, in_segment(record.name, record.name));
        add_rounds(r, rounds);
        for (size_t f = 0; f < record.fields.size(); ++f) {
          columns[r][f]->add(read_field(part, in_segment(record.name, record.fields[f].variable->name),
                                        record.fields[f], static_cast<int64_t>(rounds.size())));
        }
      }
    }
    for (size_t r = 0; r < records_.size(); ++r) {
      add_rounds(r, records_[r].rounds);
      for (size_t f = 0; f < records_[r].fields.size(); ++f) {
        columns[r][f]->add(records_[r].fields[f].values);
        columns[r][f]->finish();
        describe(file, *records_[r].fields[f].variable);
      }
    }
    file.make_group("options");
    for (const Attribute& option : options_) file.set_attribute("options", option.name, option.value);
  });
}

void Recorder::remove_segments() {
  require_open();
  remove_segment_files(segments());
  complete_ = true;
}

}  // namespace pf2lora
