#include "core/text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace pf2lora {
namespace {

std::string print(const char* format, auto... values) {
  std::array<char, 400> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, values...);
  return buffer.data();
}

std::string normalised(std::string_view name) {
  std::string result(name);
  for (char& c : result) c = c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

std::size_t rightmost_column(const std::vector<std::vector<std::string>>& rows) {
  std::size_t columns = 0;
  for (const auto& row : rows) columns = std::max(columns, row.size());
  return columns;
}

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string nearest_name(std::string_view name, std::span<const std::string> candidates) {
  const std::string wanted = normalised(name);
  const std::string* nearest = nullptr;
  std::size_t smallest = 0;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(wanted, normalised(candidate));
    const std::size_t allowed = std::clamp<std::size_t>(std::max(wanted.size(), candidate.size()) / 3, 1, 3);
    if (distance > allowed || distance >= candidate.size()) continue;
    if (nearest == nullptr || distance < smallest) nearest = &candidate, smallest = distance;
  }
  if (nearest != nullptr) return *nearest;
  if (wanted.size() < 3) return "";
  const auto begins = [&](const std::string& candidate) {
    const std::string whole = normalised(candidate);
    return whole.starts_with(wanted) || (whole.size() >= 3 && wanted.starts_with(whole));
  };
  const auto first = std::ranges::find_if(candidates, begins);
  if (first == candidates.end() || std::ranges::count_if(candidates, begins) > 1) return "";
  return *first;
}

std::string did_you_mean(std::string_view name, std::span<const std::string> candidates) {
  const std::string nearest = nearest_name(name, candidates);
  return nearest.empty() ? "" : "; did you mean '" + nearest + "'?";
}

std::string format_bytes(int64_t bytes) {
  if (std::abs(static_cast<double>(bytes)) < 1024) return std::to_string(bytes) + " B";
  constexpr std::array units = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (std::abs(value) >= 1023.95 && unit + 1 < units.size()) value /= 1024, ++unit;
  return print("%.1f %s", value, units[unit]);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  if (seconds == 0) return "0 s";
  if (seconds < 0.99995)
    return print("%.*f ms", seconds < 0.00995 ? 2 : seconds < 0.09995 ? 1 : 0, seconds * 1e3);
  if (seconds < 59.95) return print("%.1f s", seconds);
  if (seconds >= 1e15) return print("%.0f d", seconds / 86400);
  const auto whole = static_cast<long long>(std::llround(seconds));
  if (whole < 3600) return print("%lld min %02lld s", whole / 60, whole % 60);
  const long long minutes = (whole + 30) / 60;
  if (minutes < 24 * 60) return print("%lld h %02lld min", minutes / 60, minutes % 60);
  const long long hours = (whole + 1800) / 3600;
  return print("%lld d %02lld h", hours / 24, hours % 24);
}

std::string format_count(int64_t count) {
  std::string digits = std::to_string(count);
  const std::ptrdiff_t first = count < 0 ? 1 : 0;
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > first; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return digits;
}

std::string format_fixed(double value, int decimals) {
  return std::isnan(value) ? "-" : print("%.*f", decimals, value);
}

std::string format_significant(double value, int digits) {
  return std::isnan(value) ? "-" : print("%.*g", digits, value);
}

std::string format_percent(double share) {
  return std::isnan(share) ? "-" : print("%.1f%%", share * 100);
}

std::string format_exact(double value) {
  std::array<char, 64> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), result.ptr};
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n\v\f";
  const std::size_t first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t at; (at = text.find(separator)) != std::string_view::npos; text.remove_prefix(at + 1)) {
    parts.emplace_back(text.substr(0, at));
  }
  parts.emplace_back(text);
  return parts;
}

std::string join(std::span<const std::string> parts, std::string_view separator) {
  std::string result;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) result += separator;
    result += parts[i];
  }
  return result;
}

std::string shortened_list(std::span<const std::string> parts, std::size_t most) {
  return join(parts.first(std::min(parts.size(), most)), ", ") + (parts.size() > most ? ", ..." : "");
}

std::string shortened_list(std::span<const int64_t> numbers, std::size_t most) {
  std::vector<std::string> parts;  // one more than is shown tells that there are more
  for (const int64_t number : numbers.first(std::min(numbers.size(), most + 1)))
    parts.push_back(std::to_string(number));
  return shortened_list(parts, most);
}

std::vector<std::string> wrap(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  for (const std::string& word : split(text, ' ')) {
    if (word.empty()) continue;
    if (lines.empty() || lines.back().size() + 1 + word.size() > width) {
      lines.push_back(word);
    } else {
      lines.back() += ' ' + word;
    }
  }
  return lines;
}

std::string align_columns(const std::vector<std::vector<std::string>>& rows, std::size_t left,
                          std::string_view indent) {
  std::vector<std::size_t> widths(rightmost_column(rows), 0);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string result;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      line += i == 0 ? std::string(indent) : "  ";
      line += i < left ? row[i] + padding : padding + row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    result += line + '\n';
  }
  return result;
}

}  // namespace pf2lora
