#include "core/exact_sum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <string>

// A product that is fused with the sum after it would skip the documented rounding of the term.
#if defined(__FAST_MATH__)
#error "exact_sum.cpp depends on IEEE arithmetic: compile it without -ffast-math"
#elif defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

namespace pf2lora {
namespace {

__extension__ using Int128 = __int128;

constexpr int low_bits = 44;
constexpr int64_t low_mask = (int64_t{1} << low_bits) - 1;

// Adding 1.5 * 2^(52 + k) to a small double rounds it to a multiple of 2^k and leaves that multiple in the
// low bits of the result.
constexpr double high_shift = 0x1.8p36;  // k = -16 = 44 - 60
constexpr double low_shift = 0x1.8p-8;   // k = -60

int64_t bits(double number) {
  return std::bit_cast<int64_t>(number);
}

// Index of the first value whose term cannot be added; n if there is none.
template <typename Value>
size_t first_bad(std::span<const Value> values, double weight) {
  constexpr size_t block = 512;
  for (size_t begin = 0; begin < values.size(); begin += block) {
    const size_t end = std::min(begin + block, values.size());
    int64_t bad = 0;
    for (size_t i = begin; i < end; ++i)
      bad |= !(std::fabs(weight * static_cast<double>(values[i])) < ExactSum::term_limit);
    if (!bad) continue;
    for (size_t i = begin; i < end; ++i)
      if (!(std::fabs(weight * static_cast<double>(values[i])) < ExactSum::term_limit)) return i;
  }
  return values.size();
}

// low + high * 2^44 grows by the rounded terms. The high part is the nearest multiple of 2^-16, so that what
// is left of the term is exact in double and its own rounding is the only one.
template <typename Value>
void add_terms(const Value* __restrict values, size_t n, double weight, int64_t* __restrict low,
               int64_t* __restrict high) {
  for (size_t i = 0; i < n; ++i) {
    const double term = weight * static_cast<double>(values[i]);
    const double shifted = term + high_shift;
    const double rest = term - (shifted - high_shift);
    const int64_t rest_units = bits(rest + low_shift) - bits(low_shift);  // in [-2^43, 2^43]
    const int64_t borrow = static_cast<int64_t>(static_cast<uint64_t>(rest_units) >> 63);
    low[i] += rest_units & low_mask;
    high[i] += bits(shifted) - bits(high_shift) - borrow;
  }
}

std::string short_text(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", number);
  return text;
}

void check_range(size_t offset, size_t count, size_t size) {
  if (offset <= size && count <= size - offset) return;
  throw Error(ExitCode::internal_error, "numbers " + std::to_string(offset) + " to " +
                                            std::to_string(offset + count) + " lie outside an exact sum of " +
                                            std::to_string(size));
}

void check_count(int64_t terms) {
  if (terms >= 0 && terms <= ExactSum::max_terms) return;
  throw NumericalError("an exact sum holds " + std::to_string(ExactSum::max_terms) +
                       " terms a number and was given " + std::to_string(terms) +
                       "; take fewer clients a round (--clients-per-round)");
}

NumericalError bad_term(size_t index, double weight, double value) {
  return NumericalError("the term " + short_text(weight * value) + " (weight " + short_text(weight) +
                        " times " + short_text(value) + ") of number " + std::to_string(index) +
                        " cannot be summed: it must be finite and below 2^28 = 268435456; lower the learning "
                        "rate or set --clip");
}

}  // namespace

ExactSum::ExactSum(size_t n) : size_(n), pass_end_(0), limbs_(2 * n + 1, 0) {}

template <typename Value>
void ExactSum::add_row(size_t offset, std::span<const Value> values, double weight) {
  check_range(offset, values.size(), size_);
  if (values.empty()) return;
  const bool new_pass = terms() == 0 || offset < pass_end_;
  check_count(terms() + new_pass);
  const size_t bad = first_bad(values, weight);
  if (bad != values.size()) throw bad_term(offset + bad, weight, static_cast<double>(values[bad]));
  add_terms(values.data(), values.size(), weight, limbs_.data() + offset, limbs_.data() + size_ + offset);
  limbs_.back() += new_pass;
  pass_end_ = offset + values.size();
}

void ExactSum::add(size_t offset, std::span<const float> values, double weight) {
  add_row(offset, values, weight);
}

void ExactSum::add(size_t offset, std::span<const double> values, double weight) {
  add_row(offset, values, weight);
}

void ExactSum::add(const ExactSum& other) {
  if (other.size_ != size_)
    throw Error(ExitCode::internal_error, "an exact sum of " + std::to_string(other.size_) +
                                              " numbers was added to one of " + std::to_string(size_));
  check_count(terms() + other.terms());
  const int64_t* source = other.limbs_.data();
  int64_t* target = limbs_.data();
  for (size_t i = 0; i < limbs_.size(); ++i) target[i] += source[i];
  pass_end_ = size_;
}

double ExactSum::value(size_t i) const {
  double result;
  values(i, {&result, 1});
  return result;
}

void ExactSum::values(size_t offset, std::span<double> result) const {
  check_range(offset, result.size(), size_);
  const int64_t* low = limbs_.data() + offset;
  const int64_t* high = low + size_;
  for (size_t i = 0; i < result.size(); ++i) {
    const Int128 units = static_cast<Int128>(high[i]) * (Int128{1} << low_bits) + low[i];
    result[i] =
        static_cast<double>(units) * unit;  // the conversion rounds to nearest even, the product is exact
  }
}

void ExactSum::clear() {
  std::fill(limbs_.begin(), limbs_.end(), 0);
  pass_end_ = size_;
}

void ExactSum::check_terms() const {
  check_count(terms());
}

}  // namespace pf2lora
