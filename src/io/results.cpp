#include "io/results.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "io/results_fill.h"

namespace pf2lora {
namespace {

Error results_misuse(const std::string& what) {
  return Error(ExitCode::internal_error, "results: " + what);
}

bool is_record(const Dimension& dimension) {
  return dimension.size == kRecordDimension;
}

// `value` as the stored type; throws where an integer cannot hold it.
template <class To, class From>
To converted(From value, const std::string& name) {
  if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    if (std::isnan(value)) return fill_value<To>();
    // 2^63 and 2^31 themselves are doubles that do not fit.
    const double end = -static_cast<double>(std::numeric_limits<To>::min());
    if (std::floor(value) != value || value < -end || value >= end) {
      throw results_misuse("'" + name + "' holds integers, but was given " + std::to_string(value));
    }
  } else if constexpr (std::is_same_v<To, int32_t>) {
    if (value < std::numeric_limits<To>::min() || value > std::numeric_limits<To>::max()) {
      throw results_misuse("'" + name + "' holds 32-bit integers, but was given " + std::to_string(value));
    }
  }
  return static_cast<To>(value);
}

}  // namespace

Recorder::Recorder(std::string directory, ResultsSchema schema, std::vector<Attribute> attributes,
                   std::vector<Attribute> options)
    : directory_(std::move(directory)),
      schema_(std::move(schema)),
      attributes_(std::move(attributes)),
      options_(std::move(options)) {
  check_schema();
  for (const Dimension& axis : schema_.dimensions) {
    if (is_record(axis)) records_.push_back({axis.name, {}, {}});
  }
  for (const Variable& variable : schema_.variables) {
    const auto record = std::find_if(records_.begin(), records_.end(), [&](const Record& r) {
      return !variable.dimensions.empty() && r.name == variable.dimensions[0];
    });
    if (record == records_.end()) continue;
    Shape shape = shape_of(variable, 1);
    const int64_t length = product(shape);
    record->fields.push_back({&variable, std::move(shape), length, no_values(variable.type), false});
  }
}

void Recorder::check_schema() const {
  std::set<std::string> names;
  const std::set<std::string> time_words = {"days",         "hours",        "minutes",    "seconds",
                                            "milliseconds", "microseconds", "nanoseconds"};
  for (const Dimension& axis : schema_.dimensions) {
    if (!names.insert(axis.name).second) throw results_misuse("the name '" + axis.name + "' is taken twice");
    if (axis.size < 0 && !is_record(axis))
      throw results_misuse("dimension '" + axis.name + "' has a negative size");
    const size_t given = std::visit(
        [](const auto& list) -> size_t {
          if constexpr (std::is_same_v<std::decay_t<decltype(list)>, std::monostate>)
            return 0;
          else
            return list.size();
        },
        axis.coordinates);
    const bool none = std::holds_alternative<std::monostate>(axis.coordinates);
    if (!none && (is_record(axis) || static_cast<int64_t>(given) != axis.size)) {
      throw results_misuse("dimension '" + axis.name + "' has " + std::to_string(given) +
                           " coordinates for a size of " + std::to_string(axis.size));
    }
  }
  for (const Variable& variable : schema_.variables) {
    if (!names.insert(variable.name).second)
      throw results_misuse("the name '" + variable.name + "' is taken twice");
    if (time_words.count(variable.units) != 0) {
      throw results_misuse("'" + variable.name + "' has the unit '" + variable.units +
                           "'; give a symbol such as 's'");
    }
    for (size_t axis = 0; axis < variable.dimensions.size(); ++axis) {
      const bool record = is_record(dimension(variable.dimensions[axis]));
      if (record && (axis > 0 || variable.type == VariableType::string)) {
        throw results_misuse("'" + variable.name + "' has the record dimension '" +
                             variable.dimensions[axis] + "', which is for numbers and the first axis alone");
      }
    }
  }
}

void Recorder::require_open() const {
  if (complete_) throw results_misuse("the run was recorded as complete; its segments are gone");
}

const Dimension& Recorder::dimension(const std::string& name) const {
  for (const Dimension& axis : schema_.dimensions) {
    if (axis.name == name) return axis;
  }
  throw results_misuse("there is no dimension '" + name + "'");
}

Shape Recorder::shape_of(const Variable& variable, size_t first_axis) const {
  Shape shape;
  for (size_t axis = first_axis; axis < variable.dimensions.size(); ++axis) {
    shape.push_back(dimension(variable.dimensions[axis]).size);
  }
  return shape;
}

Recorder::Values Recorder::no_values(VariableType type) {
  switch (type) {
    case VariableType::f64:
      return std::vector<double>{};
    case VariableType::f32:
      return std::vector<float>{};
    case VariableType::i64:
      return std::vector<int64_t>{};
    case VariableType::i32:
      return std::vector<int32_t>{};
    case VariableType::string:
      return std::vector<std::string>{};
  }
  throw results_misuse("unknown type of a variable");
}

template <class T>
void Recorder::place(const Variable& variable, std::span<const T> from, Values& to, size_t first) {
  std::visit(
      [&](auto& target) {
        using Element = typename std::decay_t<decltype(target)>::value_type;
        if constexpr (!std::is_same_v<Element, std::string>) {
          for (size_t i = 0; i < from.size(); ++i) {
            target[first + i] = converted<Element>(from[i], variable.name);
          }
        }
      },
      to);
}

const Variable& Recorder::static_variable(const std::string& name) const {
  for (const Variable& variable : schema_.variables) {
    if (variable.name != name) continue;
    if (!variable.dimensions.empty() && is_record(dimension(variable.dimensions[0]))) break;
    return variable;
  }
  throw results_misuse("there is no static variable '" + name + "'");
}

template <class T>
void Recorder::put_numbers(const std::string& name, std::span<const T> values) {
  const Variable& variable = static_variable(name);
  if (variable.type == VariableType::string) throw results_misuse("'" + name + "' holds texts, not numbers");
  if (static_cast<int64_t>(values.size()) != product(shape_of(variable, 0))) {
    throw results_misuse("'" + name + "' was given " + std::to_string(values.size()) + " values instead of " +
                         std::to_string(product(shape_of(variable, 0))));
  }
  Values stored = no_values(variable.type);
  std::visit([&](auto& list) { list.resize(values.size()); }, stored);
  place(variable, values, stored, 0);
  static_values_[name] = std::move(stored);
}

void Recorder::put(const std::string& name, std::span<const double> values) {
  put_numbers(name, values);
}
void Recorder::put(const std::string& name, std::span<const int64_t> values) {
  put_numbers(name, values);
}

void Recorder::put(const std::string& name, std::span<const std::string> values) {
  const Variable& variable = static_variable(name);
  if (variable.type != VariableType::string) throw results_misuse("'" + name + "' holds numbers, not texts");
  if (static_cast<int64_t>(values.size()) != product(shape_of(variable, 0))) {
    throw results_misuse("'" + name + "' was given " + std::to_string(values.size()) + " texts instead of " +
                         std::to_string(product(shape_of(variable, 0))));
  }
  static_values_[name] = std::vector<std::string>(values.begin(), values.end());
}

void Recorder::set_attribute(const std::string& name, const AttributeValue& value) {
  for (Attribute& attribute : attributes_) {
    if (attribute.name == name) {
      attribute.value = value;
      return;
    }
  }
  attributes_.push_back({name, value});
}

void Recorder::start_row(Record& record, int64_t coordinate) {
  const int64_t before = record.rounds.empty() ? last_round() : record.rounds.back();
  if (coordinate <= before) {
    throw results_misuse("a row of '" + record.name + "' for round " + std::to_string(coordinate) +
                         " comes after round " + std::to_string(before));
  }
  record.rounds.push_back(coordinate);
  for (Field& field : record.fields) {
    field.given_last = false;
    std::visit(
        [&](auto& values) {
          using Element = typename std::decay_t<decltype(values)>::value_type;
          values.resize(values.size() + static_cast<size_t>(field.row_length), fill_value<Element>());
        },
        field.values);
  }
}

void Recorder::append(const std::string& record_name, int64_t coordinate,
                      const std::vector<RecordValue>& values) {
  require_open();
  const auto record =
      std::find_if(records_.begin(), records_.end(), [&](const Record& r) { return r.name == record_name; });
  if (record == records_.end()) throw results_misuse("there is no record dimension '" + record_name + "'");
  if (record->rounds.empty() || record->rounds.back() != coordinate) start_row(*record, coordinate);
  for (const RecordValue& value : values) {
    const auto field = std::find_if(record->fields.begin(), record->fields.end(),
                                    [&](const Field& f) { return f.variable->name == value.name; });
    if (field == record->fields.end()) {
      throw results_misuse("there is no variable '" + value.name + "' along '" + record_name + "'");
    }
    if (field->given_last) {
      throw results_misuse("'" + value.name + "' was given twice for round " + std::to_string(coordinate));
    }
    std::visit(
        [&](const auto& numbers) {
          if (static_cast<int64_t>(numbers.size()) != field->row_length) {
            throw results_misuse("'" + value.name + "' was given " + std::to_string(numbers.size()) +
                                 " values for a row of " + std::to_string(field->row_length));
          }
          const size_t first = (record->rounds.size() - 1) * static_cast<size_t>(field->row_length);
          place(*field->variable, numbers, field->values, first);
        },
        value.values);
    field->given_last = true;
  }
}

}  // namespace pf2lora
