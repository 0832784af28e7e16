#include "simulation/resume_check.h"

#include <map>
#include <set>
#include <sstream>

#include "core/error.h"

namespace pf2lora {
namespace {

constexpr const char* kConfig = "config";

// `key = value` lines of an ini text.
std::map<std::string, std::string> parse_lines(const std::string& text) {
  std::map<std::string, std::string> values;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    const size_t equals = line.find('=');
    if (line.empty() || line[0] == '#' || equals == std::string::npos) continue;
    const auto trim = [](std::string part) {
      const size_t begin = part.find_first_not_of(' '), end = part.find_last_not_of(' ');
      return begin == std::string::npos ? std::string() : part.substr(begin, end - begin + 1);
    };
    values[trim(line.substr(0, equals))] = trim(line.substr(equals + 1));
  }
  return values;
}

std::string find(const Texts& texts, const std::string& name) {
  for (const auto& [key, text] : texts)
    if (key == name) return text;
  return "";
}

}  // namespace

Texts checkpoint_texts(const std::string& config, const Texts& input_digests) {
  Texts texts = input_digests;
  texts.emplace_back(kConfig, config);
  return texts;
}

void check_resumed(const Texts& saved, const Texts& now, const Options& options) {
  std::set<std::string> free = {
      "output",  "resume",   "overwrite",    "dry-run", "max-hours", "checkpoint-every",
      "threads", "progress", "prefix-cache", "model",   "data"};
  const bool rates_depend_on_rounds = options.schedule != "constant" || options.warmup > 0;
  if (!rates_depend_on_rounds) free.insert("rounds");
  const auto before = parse_lines(find(saved, kConfig));
  for (const auto& [name, value] : parse_lines(find(now, kConfig))) {
    const auto found = before.find(name);
    const std::string was = found == before.end() ? "not there" : found->second;
    if (was == value || free.contains(name)) continue;
    throw OptionError(
        "--resume: --" + name + " is '" + value + "', but '" + was +
        "' in the run that wrote the checkpoint; give the same value, or start anew with another --output");
  }
  for (const auto& [name, digest] : now)
    if (name != kConfig && find(saved, name) != digest)
      throw InputError("--resume: " + name + " is " + digest + ", but " + find(saved, name) +
                       " in the run that wrote the checkpoint; give it the same data and model");
}

void check_rounds_left(int64_t rounds_done, const Options& options) {
  if (rounds_done > options.rounds)
    throw OptionError("--resume: " + std::to_string(rounds_done) +
                      " rounds are done already, more than --rounds " + std::to_string(options.rounds) +
                      "; raise --rounds to go on");
}

}  // namespace pf2lora
