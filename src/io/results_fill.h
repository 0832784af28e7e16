// Private to src/io: what stands in results.h5 where nothing was recorded.
#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace pf2lora {

// NaN; for integers the default fill values of netCDF (NC_FILL_INT64, NC_FILL_INT); no text.
template <class T>
T fill_value() {
  if constexpr (std::is_floating_point_v<T>) return std::numeric_limits<T>::quiet_NaN();
  if constexpr (std::is_same_v<T, int64_t>) return -9223372036854775806;
  if constexpr (std::is_same_v<T, int32_t>) return -2147483647;
  if constexpr (std::is_same_v<T, std::string>) return {};
}

// Lines of `width` values, each continued with 0 to `wanted` values.
template <class T>
std::vector<T> widened(const std::vector<T>& values, int64_t width, int64_t wanted) {
  if (width == wanted) return values;
  std::vector<T> result;
  for (auto line = values.begin(); line != values.end(); line += width) {
    result.insert(result.end(), line, line + width);
    result.resize(result.size() + static_cast<size_t>(wanted - width));
  }
  return result;
}

}  // namespace pf2lora
