#include "core/option_values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <ranges>
#include <system_error>
#include <type_traits>

#include "core/error.h"
#include "core/text.h"

namespace pf2lora {
namespace {

[[noreturn]] void refuse(std::string_view option, const std::string& problem) {
  throw OptionError("option " + std::string(option) + ": " + problem);
}

// Reads the whole of `text`: no blanks, no sign '+', no trailing characters.
template <class Number>
std::errc read_number(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return error;
  return end == text.data() + text.size() ? std::errc() : std::errc::invalid_argument;
}

int64_t parse_integer(std::string_view option, std::string_view text, const std::string& allowed) {
  int64_t value = 0;
  const std::errc error = read_number(text, value);
  const std::string quoted = "'" + std::string(text) + "'";
  if (error == std::errc::result_out_of_range) refuse(option, quoted + " is out of range; give " + allowed);
  if (error != std::errc()) refuse(option, quoted + " is not an integer; give " + allowed);
  return value;
}

double parse_number(std::string_view option, std::string_view text, const std::string& allowed) {
  double value = 0;
  const std::errc error = read_number(text, value);
  const std::string quoted = "'" + std::string(text) + "'";
  if (error == std::errc::result_out_of_range) refuse(option, quoted + " is out of range; give " + allowed);
  if (error != std::errc()) refuse(option, quoted + " is not a number; give " + allowed);
  if (!std::isfinite(value)) refuse(option, quoted + " is not finite; give " + allowed);
  return value;
}

bool parse_flag(std::string_view option, std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  for (const char* yes : {"true", "yes", "on", "1"}) {
    if (lower == yes) return true;
  }
  for (const char* no : {"false", "no", "off", "0"}) {
    if (lower == no) return false;
  }
  refuse(option, "'" + std::string(text) + "' is neither true nor false; give true or false");
}

std::string quoted_entry(std::string_view entry) {
  return "'" + std::string(entry) + "'";
}

// What an ini file cannot hold may not be given on the command line either, so that --print-config can write
// it.
void require_writable(std::string_view option, std::string_view text) {
  for (const char c : text) {
    if (c == '#')
      refuse(option,
             quoted_entry(text) + " holds a '#', which begins a comment in an ini file; choose another name");
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      refuse(option, "the value holds a control character such as a tab or line end; leave it out");
    }
  }
  if (trim(text).size() != text.size())
    refuse(option, quoted_entry(text) + " begins or ends with a blank; leave it out");
}

void require_choice(const OptionEntry& entry, const std::string& value) {
  const auto& choices = entry.constraint.choices;
  if (choices.empty() || std::ranges::find(choices, value) != choices.end()) return;
  refuse(entry.name, quoted_entry(value) + " is not known; give " + describe_allowed(entry) +
                         did_you_mean(value, choices));
}

template <class Number>
void require_bounds(const OptionEntry& entry, Number value, std::string_view text) {
  const Constraint& c = entry.constraint;
  const auto number = static_cast<double>(value);
  if (number < c.low || (c.above && number == c.low) || number > c.high) {
    refuse(entry.name, quoted_entry(text) + " is out of bounds; give " + describe_allowed(entry));
  }
}

std::vector<std::string> parse_entries(const OptionEntry& entry, std::string_view text) {
  std::vector<std::string> entries;
  if (text.empty()) return entries;
  for (const std::string& part : split(text, ',')) {
    entries.emplace_back(trim(part));
    if (entries.back().empty()) {
      refuse(entry.name, quoted_entry(text) + " has an empty entry; give " + describe_allowed(entry));
    }
    require_choice(entry, entries.back());
  }
  return entries;
}

constexpr std::string_view adaptation_option = "adaptation-steps";
constexpr std::string_view layers_option = "adapted-layers";
const std::string adaptation_allowed = "'auto', 'none', or increasing numbers of steps such as 5,10";
const std::string layers_allowed = "'all', 'top:k' with k of at least 1, or distinct layer numbers from 0";

void require_alone(std::string_view option, const std::vector<std::string>& entries,
                   const std::string& allowed) {
  if (entries.size() > 1) refuse(option, quoted_entry(join(entries, ",")) + " mixes forms; give " + allowed);
}

int64_t parse_non_negative(std::string_view option, const std::string& entry, const std::string& allowed) {
  const int64_t value = parse_integer(option, entry, allowed);
  if (value < 0) refuse(option, quoted_entry(entry) + " is negative; give " + allowed);
  return value;
}

// What --adapted-layers says before a model is known.
struct LayerChoice {
  bool all = false;
  int64_t top = 0;               // top:k, or 0
  std::vector<int64_t> numbers;  // increasing
};

LayerChoice parse_layer_choice(const std::vector<std::string>& entries) {
  LayerChoice choice;
  if (entries.empty()) refuse(layers_option, "no layer is given; give " + layers_allowed);
  for (const std::string& entry : entries) {
    if (entry == "all") {
      require_alone(layers_option, entries, layers_allowed);
      choice.all = true;
    } else if (entry.starts_with("top:")) {
      require_alone(layers_option, entries, layers_allowed);
      choice.top = parse_integer(layers_option, entry.substr(4), layers_allowed);
      if (choice.top < 1)
        refuse(layers_option, quoted_entry(entry) + " is no layer at all; give " + layers_allowed);
    } else {
      choice.numbers.push_back(parse_non_negative(layers_option, entry, layers_allowed));
    }
  }
  std::ranges::sort(choice.numbers);
  const auto twice = std::ranges::adjacent_find(choice.numbers);
  if (twice != choice.numbers.end()) {
    refuse(layers_option, "layer " + std::to_string(*twice) + " is given twice; give " + layers_allowed);
  }
  return choice;
}

std::string describe_bounds(const Constraint& c) {
  const bool low = std::isfinite(c.low), high = std::isfinite(c.high);
  if (low && high && !c.above)
    return " from " + format_significant(c.low, 10) + " to " + format_significant(c.high, 10);
  std::string text;
  if (low) text += (c.above ? " above " : " of at least ") + format_significant(c.low, 10);
  if (high) text += (low ? " and at most " : " of at most ") + format_significant(c.high, 10);
  return text;
}

}  // namespace

void assign_value(const OptionEntry& entry, std::string_view text) {
  require_writable(entry.name, text);
  const std::string allowed = describe_allowed(entry);
  const auto set = [&](auto* field) {
    using Value = std::remove_pointer_t<decltype(field)>;
    if constexpr (std::is_same_v<Value, bool>) {
      *field = parse_flag(entry.name, text);
    } else if constexpr (std::is_same_v<Value, int64_t>) {
      const int64_t value = parse_integer(entry.name, text, allowed);
      require_bounds(entry, value, text);
      *field = value;
    } else if constexpr (std::is_same_v<Value, double>) {
      const double value = parse_number(entry.name, text, allowed);
      require_bounds(entry, value, text);
      *field = value;
    } else if constexpr (std::is_same_v<Value, std::string>) {
      require_choice(entry, std::string(text));
      *field = text;
    } else {
      *field = parse_entries(entry, text);
    }
  };
  std::visit(set, entry.field);
}

std::string format_value(const OptionEntry& entry) {
  const auto format = [](const auto* field) -> std::string {
    using Value = std::remove_cvref_t<decltype(*field)>;
    if constexpr (std::is_same_v<Value, bool>) {
      return *field ? "true" : "false";
    } else if constexpr (std::is_same_v<Value, int64_t>) {
      return std::to_string(*field);
    } else if constexpr (std::is_same_v<Value, double>) {
      return format_exact(*field);
    } else if constexpr (std::is_same_v<Value, std::string>) {
      return *field;
    } else {
      return join(*field, ",");
    }
  };
  return std::visit(format, entry.field);
}

std::string describe_allowed(const OptionEntry& entry) {
  const bool list = std::holds_alternative<std::vector<std::string>*>(entry.field);
  const std::string choices = join(entry.constraint.choices, ", ");
  if (entry.is_flag()) return "true or false";
  if (std::holds_alternative<int64_t*>(entry.field)) return "an integer" + describe_bounds(entry.constraint);
  if (std::holds_alternative<double*>(entry.field)) return "a number" + describe_bounds(entry.constraint);
  if (list) return choices.empty() ? "entries apart by commas" : "some of " + choices + ", apart by commas";
  if (choices.empty()) return "text";
  return entry.constraint.choices.size() == 1 ? choices : "one of " + choices;
}

std::vector<std::string> describe_idle(const std::vector<OptionEntry>& options,
                                       const std::vector<std::string>& given,
                                       const std::vector<InputFact>& facts) {
  std::map<std::string, InputFact> known;  // by what a condition names, as a sentence names it
  for (const OptionEntry& option : options) known[option.name] = {"--" + option.name, format_value(option)};
  for (const InputFact& fact : facts) known[fact.name] = {"the " + fact.name, fact.value};
  std::vector<std::string> sentences;
  for (const OptionEntry& option : options) {
    if (std::ranges::find(given, option.name) == given.end()) continue;
    for (const Condition& c : option.constraint.conditions) {
      const auto found = known.find(c.option);
      if (found == known.end()) continue;
      const auto& [name, value] = found->second;
      const bool among = std::ranges::find(c.values, value) != c.values.end();
      if (among == c.among) continue;
      sentences.push_back("--" + option.name + " has no effect with " + name + " " + value +
                          (c.among ? ", only with " + join(c.values, ", ") : ""));
      break;
    }
  }
  return sentences;
}

std::vector<double> parse_number_list(std::string_view option, std::string_view text) {
  if (trim(text).empty()) return {};
  std::vector<double> numbers;
  for (const std::string& part : split(text, ',')) {
    const std::string_view entry = trim(part);
    if (entry.empty())
      refuse(option, quoted_entry(text) + " has an empty entry; give numbers apart by commas");
    numbers.push_back(parse_number(option, entry, "numbers apart by commas"));
  }
  return numbers;
}

std::vector<std::vector<double>> parse_client_values(std::string_view option, std::string_view text) {
  std::vector<std::vector<double>> clients;
  for (const std::string& client : split(text, ';')) clients.push_back(parse_number_list(option, client));
  return clients;
}

std::optional<std::vector<int64_t>> parse_adaptation_steps(const std::vector<std::string>& entries) {
  if (entries.empty()) refuse(adaptation_option, "no value is given; give " + adaptation_allowed);
  std::vector<int64_t> steps;
  for (const std::string& entry : entries) {
    if (entry == "auto" || entry == "none") {
      require_alone(adaptation_option, entries, adaptation_allowed);
      if (entry == "auto") return std::nullopt;
      return steps;
    }
    steps.push_back(parse_non_negative(adaptation_option, entry, adaptation_allowed));
    if (steps.size() > 1 && steps.back() <= steps[steps.size() - 2]) {
      refuse(adaptation_option,
             quoted_entry(join(entries, ",")) + " does not increase; give " + adaptation_allowed);
    }
  }
  return steps;
}

std::vector<int64_t> parse_adapted_layers(const std::vector<std::string>& entries, int64_t number_of_layers) {
  const LayerChoice choice = parse_layer_choice(entries);
  const int64_t highest = choice.numbers.empty() ? choice.top - 1 : choice.numbers.back();
  if (highest >= number_of_layers) {
    refuse(layers_option, quoted_entry(join(entries, ",")) + " reaches beyond the model, which has " +
                              std::to_string(number_of_layers) + " layers (0 to " +
                              std::to_string(number_of_layers - 1) + "); choose among these");
  }
  if (!choice.numbers.empty()) return choice.numbers;
  const int64_t first = choice.all ? 0 : number_of_layers - choice.top;
  std::vector<int64_t> layers(static_cast<std::size_t>(number_of_layers - first));
  std::iota(layers.begin(), layers.end(), first);
  return layers;
}

void check_adapted_layers(const std::vector<std::string>& entries) {
  parse_layer_choice(entries);
}

}  // namespace pf2lora
