#include "core/random.h"

#include <Random123/threefry.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <stdexcept>
#include <string>
#include <unordered_map>

namespace pf2lora {

__extension__ typedef unsigned __int128 Product;

std::array<uint64_t, 4> threefry(const std::array<uint64_t, 4>& key, const std::array<uint64_t, 4>& counter) {
  r123::Threefry4x64::ctr_type c{};
  r123::Threefry4x64::key_type k{};
  for (std::size_t i = 0; i < 4; ++i) {
    c[i] = counter[i];
    k[i] = key[i];
  }
  const auto words = r123::Threefry4x64_R<20>()(c, k);
  return {words[0], words[1], words[2], words[3]};
}

KeyedRandom::KeyedRandom(uint64_t seed, Purpose purpose, int64_t client, int64_t round, int64_t step,
                         int64_t slot)
    : key_{seed, static_cast<uint64_t>(client), static_cast<uint64_t>(round), static_cast<uint64_t>(step)},
      counter_{0, static_cast<uint64_t>(slot), static_cast<uint64_t>(purpose), 0} {}

uint64_t KeyedRandom::bits() {
  if (used_ == words_.size()) {
    words_ = threefry(key_, counter_);
    ++counter_[0];
    used_ = 0;
  }
  return words_[used_++];
}

double KeyedRandom::uniform() {
  return static_cast<double>(bits() >> 11) * 0x1p-53;
}

double KeyedRandom::uniform(double low, double high) {
  return low + (high - low) * uniform();
}

double KeyedRandom::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

uint64_t KeyedRandom::below(uint64_t n) {
  if (n == 0) throw std::invalid_argument("KeyedRandom::below(0) has no value to draw");
  Product product = static_cast<Product>(bits()) * n;
  if (static_cast<uint64_t>(product) < n) {
    const uint64_t threshold = (0 - n) % n;  // 2^64 mod n
    while (static_cast<uint64_t>(product) < threshold) product = static_cast<Product>(bits()) * n;
  }
  return static_cast<uint64_t>(product >> 64);
}

double KeyedRandom::log_gamma_variate(double shape) {
  if (!(shape > 0) || !std::isfinite(shape))
    throw std::invalid_argument("a gamma variate needs a positive finite shape, not " +
                                std::to_string(shape));
  if (shape < 1) {
    const double boost = std::log(1 - uniform()) / shape;
    return log_gamma_variate(shape + 1) + boost;
  }
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = normal();
    const double root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    if (std::log(1 - uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return std::log(d) + std::log(v);
  }
}

std::vector<double> KeyedRandom::log_dirichlet(std::span<const double> alpha) {
  std::vector<double> logs;
  logs.reserve(alpha.size());
  for (const double a : alpha) logs.push_back(log_gamma_variate(a));
  if (logs.empty()) return logs;
  const double largest = *std::max_element(logs.begin(), logs.end());
  double sum = 0;
  for (const double value : logs) sum += std::exp(value - largest);
  const double log_sum = largest + std::log(sum);
  for (double& value : logs) value -= log_sum;
  return logs;
}

std::vector<double> KeyedRandom::dirichlet(std::span<const double> alpha) {
  std::vector<double> proportions = log_dirichlet(alpha);
  for (double& value : proportions) value = std::exp(value);
  return proportions;
}

std::vector<int64_t> KeyedRandom::sample_without_replacement(int64_t n, int64_t k) {
  if (k < 0 || k > n)
    throw std::invalid_argument("cannot draw " + std::to_string(k) + " of " + std::to_string(n) +
                                " without replacement");
  // The first k steps of a forward shuffle of 0 .. n - 1; only entries that were moved are kept when k is
  // small.
  std::vector<int64_t> drawn(k);
  const auto pick = [&](int64_t i) { return i + static_cast<int64_t>(below(static_cast<uint64_t>(n - i))); };
  if (n / 4 < k) {
    std::vector<int64_t> values(n);
    std::iota(values.begin(), values.end(), 0);
    for (int64_t i = 0; i < k; ++i) {
      std::swap(values[i], values[pick(i)]);
      drawn[i] = values[i];
    }
    return drawn;
  }
  std::unordered_map<int64_t, int64_t> moved;
  for (int64_t i = 0; i < k; ++i) {
    const int64_t j = pick(i);
    const auto here = moved.find(i);
    const int64_t displaced = here == moved.end() ? i : here->second;
    const auto there = moved.find(j);
    drawn[i] = there == moved.end() ? j : there->second;
    moved[j] = displaced;
  }
  return drawn;
}

}  // namespace pf2lora
