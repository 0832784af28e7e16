// Small helpers for text that people read: suggestions, human units, wrapped and aligned lines.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pf2lora {

// Damerau-Levenshtein distance (insert, delete, replace, swap of neighbours; no substring is edited twice).
std::size_t edit_distance(std::string_view a, std::string_view b);

// The candidate that `name` most likely meant, or "" when none is near: case and '_' for '-' are overlooked,
// a third of the characters may differ; otherwise the only candidate that begins with `name`, or that `name`
// begins with.
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);

// "; did you mean 'rounds'?", or "" when no candidate is near.
std::string did_you_mean(std::string_view name, std::span<const std::string> candidates);

// "512 B", "1.5 KiB", "3.2 GiB".
std::string format_bytes(int64_t bytes);

// "12.3 ms", "12.3 s", "4 min 05 s", "1 h 05 min", "3 d 04 h"; "-" for a value that is negative or not
// finite.
std::string format_duration(double seconds);

// "294,912".
std::string format_count(int64_t count);

// A fixed number of decimals; "-" for NaN.
std::string format_fixed(double value, int decimals);

// At most `digits` significant digits, with an exponent where that is shorter; "-" for NaN.
std::string format_significant(double value, int digits);

// A share in per cent with one decimal, "85.2%"; "-" for NaN.
std::string format_percent(double share);

// The shortest decimal text that reads back as exactly `value`.
std::string format_exact(double value);

// `text` with leading and trailing blanks removed.
std::string_view trim(std::string_view text);

// The parts of `text` between separators: always one more than there are separators.
std::vector<std::string> split(std::string_view text, char separator);

std::string join(std::span<const std::string> parts, std::string_view separator);

// "0, 3, 5", shortened to "0, 3, ..." after `most` parts.
std::string shortened_list(std::span<const std::string> parts, std::size_t most = 12);
std::string shortened_list(std::span<const int64_t> numbers, std::size_t most = 12);

// `text` broken at blanks into lines of at most `width` characters; a longer word stands alone.
std::vector<std::string> wrap(std::string_view text, std::size_t width);

// Rows of cells as lines: the first `left` columns flush left, the others flush right, two blanks between.
std::string align_columns(const std::vector<std::vector<std::string>>& rows, std::size_t left = 1,
                          std::string_view indent = "  ");

}  // namespace pf2lora
