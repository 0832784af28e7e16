#include "io/segments.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <system_error>

#include "core/error.h"
#include "io/atomic_file.h"

namespace pf2lora {
namespace {

namespace fs = std::filesystem;

// The round of "NNNNNN.h5" (or of "NNNNNN.h5.partial" where `partial`); nothing for any other name.
std::optional<int64_t> round_of(const std::string& name, bool partial) {
  const std::string ending = partial ? partial_path(".h5") : ".h5";
  if (!name.ends_with(ending)) return std::nullopt;
  const std::string digits = name.substr(0, name.size() - ending.size());
  if (digits.size() < 6 || digits.size() > 18 ||
      digits.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  return std::stoll(digits);
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code failure;
  for (fs::directory_iterator entry(directory, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    names.push_back(entry->path().filename().string());
  }
  return names;
}

}  // namespace

std::string segment_path(const std::string& directory, int64_t round) {
  std::string digits = std::to_string(round);
  if (digits.size() < 6) digits.insert(0, 6 - digits.size(), '0');
  return directory + "/" + digits + ".h5";
}

std::vector<int64_t> list_segments(const std::string& directory) {
  std::vector<int64_t> rounds;
  for (const std::string& name : names_in(directory)) {
    if (const auto round = round_of(name, false)) rounds.push_back(*round);
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds;
}

void remove_segment_files(const std::string& directory, const std::vector<int64_t>& keep) {
  bool removed = false;
  for (const std::string& name : names_in(directory)) {
    const auto round = round_of(name, false);
    const bool drop =
        round ? std::find(keep.begin(), keep.end(), *round) == keep.end() : round_of(name, true).has_value();
    if (!drop) continue;
    std::error_code failure;
    fs::remove(directory + "/" + name, failure);
    if (failure) {
      throw Error(ExitCode::internal_error, "cannot remove '" + directory + "/" + name + "': " +
                                                failure.message() + "; check the directory's permissions");
    }
    removed = true;
  }
  std::error_code ignored;
  if (keep.empty() && fs::is_empty(directory, ignored) && !ignored) {
    fs::remove(directory, ignored);
  } else if (removed) {
    sync_directory(directory);
  }
}

}  // namespace pf2lora
