#include "simulation/resume_check.h"

#include <map>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/text.h"

namespace pf2lora {
namespace {

constexpr const char* kConfig = "config";
constexpr const char* kDigest = "_sha256";  // ends the names of digests

// `key = value` lines of an ini text.
std::map<std::string, std::string> parse_lines(const std::string& text) {
  std::map<std::string, std::string> values;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    const size_t equals = line.find('=');
    if (line.empty() || line[0] == '#' || equals == std::string::npos) continue;
    const std::string_view text = line;
    values[std::string(trim(text.substr(0, equals)))] = trim(text.substr(equals + 1));
  }
  return values;
}

}  // namespace

std::string find_text(const Texts& texts, const std::string& name) {
  for (const auto& [key, text] : texts)
    if (key == name) return text;
  return "";
}

Texts checkpoint_texts(const std::string& config, const Texts& input_digests) {
  Texts texts = input_digests;
  texts.emplace_back(kConfig, config);
  return texts;
}

void check_resumed(const Texts& saved, const Texts& now, const Options& options, bool rounds_matter) {
  std::set<std::string> free = {
      "output",  "resume",   "overwrite",    "dry-run", "max-hours", "checkpoint-every", "checkpoint-minutes",
      "threads", "progress", "prefix-cache", "model",   "data",      "profile",          "start-adapter"};
  const bool rates_depend_on_rounds = options.schedule != "constant" || options.warmup > 0;
  if (!rates_depend_on_rounds && !rounds_matter) free.insert("rounds");
  const auto before = parse_lines(find_text(saved, kConfig));
  std::vector<std::string> changes;
  for (const auto& [name, value] : parse_lines(find_text(now, kConfig))) {
    const auto found = before.find(name);
    const std::string was = found == before.end() ? "not there" : "'" + found->second + "'";
    if (was != "'" + value + "'" && !free.contains(name))
      changes.push_back("--" + name + " is '" + value + "' (was " + was + ")");
  }
  if (!changes.empty())
    throw OptionError("--resume: " + join(changes, ", ") +
                      ", which may not change while a run goes on; leave it out, or start anew with another "
                      "--output");
  for (const Texts* texts : {&now, &saved})
    for (const auto& [name, text] : *texts) {
      if (!name.ends_with(kDigest)) continue;
      const std::string is = find_text(now, name), was = find_text(saved, name);
      if (is != was)
        throw InputError(
            "--resume: " + name + " is " + (is.empty() ? "not there" : is) + ", but " +
            (was.empty() ? "not there" : was) +
            " in the run that wrote the checkpoint; give it the same data and model, and the same "
            "adapter to start from");
    }
}

void check_rounds_left(int64_t rounds_done, const Options& options) {
  if (rounds_done > options.rounds)
    throw OptionError("--resume: " + std::to_string(rounds_done) +
                      " rounds are done already, more than --rounds " + std::to_string(options.rounds) +
                      "; raise --rounds to go on");
}

}  // namespace pf2lora
