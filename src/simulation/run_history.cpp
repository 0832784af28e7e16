#include "simulation/run_history.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/text.h"

namespace pf2lora {
namespace {

using Json = nlohmann::ordered_json;

struct Fact {
  const char* name;  // of the root attribute; the variable is called segment_<name>
  VariableType type;
  const char* description;
};
constexpr std::array kFacts = {
    Fact{"start_utc", VariableType::string, "start, ISO 8601, UTC"},
    Fact{"ranks", VariableType::i64, "MPI ranks"},
    Fact{"threads", VariableType::i64, "threads of a rank"},
    Fact{"hosts", VariableType::string, "hosts, each once"},
    Fact{"git_commit", VariableType::string, "commit of the program"},
    Fact{"libtorch_version", VariableType::string, "version of LibTorch"},
    Fact{"cpu_model", VariableType::string, "model of the CPU"},
    Fact{"backend", VariableType::string, "what computes the model"},
    Fact{"command_line", VariableType::string, "full command line"},
};

std::string variable_name(const std::string& fact) {
  return "segment_" + fact;
}

Json to_json(const AttributeValue& value) {
  return std::visit([](const auto& held) { return Json(held); }, value);
}

AttributeValue from_json(const Json& json) {
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_array()) return json.get<std::vector<std::string>>();
  return json.get<std::string>();
}

// Each name once, in the order of its first rank.
std::string distinct(const std::vector<std::string>& names) {
  std::vector<std::string> found;
  for (const std::string& name : names)
    if (std::ranges::find(found, name) == found.end()) found.push_back(name);
  return join(found, ", ");
}

}  // namespace

std::string history_text(const RunHistory& history) {
  Json list = Json::array();
  for (const RunSegment& segment : history) {
    Json start = Json::object();
    for (const auto& [name, value] : segment.start) start[name] = to_json(value);
    list.push_back({{"first_round", segment.first_round},
                    {"last_round", segment.last_round},
                    {"end_utc", segment.end_utc},
                    {"reason", segment.reason},
                    {"start", start}});
  }
  return list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

RunHistory read_history(const std::string& text) {
  RunHistory history;
  if (text.empty()) return history;
  try {
    for (const Json& entry : Json::parse(text)) {
      RunSegment segment{
          entry.at("first_round"), entry.at("last_round"), entry.at("end_utc"), entry.at("reason"), {}};
      for (const auto& [name, value] : entry.at("start").items())
        segment.start.push_back({name, from_json(value)});
      history.push_back(std::move(segment));
    }
  } catch (const Json::exception& error) {
    throw InputError("the history of the run in its checkpoint cannot be read (" + std::string(error.what()) +
                     "); start again with --overwrite");
  }
  return history;
}

std::string start_fact(const RunSegment& segment, std::string_view name) {
  for (const Attribute& attribute : segment.start) {
    if (attribute.name != name) continue;
    if (const auto* text = std::get_if<std::string>(&attribute.value)) return *text;
    if (const auto* number = std::get_if<int64_t>(&attribute.value)) return std::to_string(*number);
    if (const auto* names = std::get_if<std::vector<std::string>>(&attribute.value)) return distinct(*names);
  }
  return "";
}

std::vector<std::string> changes_of_bits(const RunSegment& before, const RunSegment& now) {
  std::vector<std::string> changes;
  for (const auto& [name, what] : {std::pair{"threads", "--threads"},
                                   {"cpu_model", "the processor"},
                                   {"backend", "the backend"},
                                   {"libtorch_version", "LibTorch"}}) {
    const std::string was = start_fact(before, name), is = start_fact(now, name);
    if (was == is || was.empty()) continue;
    changes.push_back(std::string(what) + " is " + is + " from here on and was " + was +
                      ": numbers may differ in their last digits from those of an uninterrupted run");
  }
  return changes;
}

std::vector<Variable> history_variables() {
  std::vector<Variable> variables = {
      {"segment_first_round", {"segment"}, VariableType::i64, "", "first round of the segment"},
      {"segment_last_round", {"segment"}, VariableType::i64, "", "its last round that was saved"},
      {"segment_end_utc", {"segment"}, VariableType::string, "", "its end; empty where it is unknown"},
      {"segment_exit", {"segment"}, VariableType::string, "", "what ended it; unknown: killed, or an error"}};
  for (const Fact& fact : kFacts)
    variables.push_back({variable_name(fact.name), {"segment"}, fact.type, "", fact.description});
  return variables;
}

void put_history(Recorder& recorder, const RunHistory& history) {
  std::vector<int64_t> first, last;
  std::vector<std::string> ends, reasons;
  for (const RunSegment& segment : history) {
    first.push_back(segment.first_round);
    last.push_back(segment.last_round);
    ends.push_back(segment.end_utc);
    reasons.push_back(segment.reason.empty() ? "unknown" : segment.reason);
  }
  recorder.put("segment_first_round", std::span<const int64_t>(first));
  recorder.put("segment_last_round", std::span<const int64_t>(last));
  recorder.put("segment_end_utc", std::span<const std::string>(ends));
  recorder.put("segment_exit", std::span<const std::string>(reasons));
  for (const Fact& fact : kFacts) {
    std::vector<std::string> texts;
    for (const RunSegment& segment : history) texts.push_back(start_fact(segment, fact.name));
    if (fact.type == VariableType::string) {
      recorder.put(variable_name(fact.name), std::span<const std::string>(texts));
      continue;
    }
    std::vector<int64_t> numbers;
    for (const std::string& text : texts) numbers.push_back(std::stoll(text));
    recorder.put(variable_name(fact.name), std::span<const int64_t>(numbers));
  }
}

}  // namespace pf2lora
