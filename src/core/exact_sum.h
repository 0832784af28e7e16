// An exact, order-free sum of rows: what the clients of a round contribute. Terms are rounded once to a fixed
// unit and added as integers, so any order, grouping and number of ranks gives the same bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/error.h"

namespace pf2lora {

// The sum of n numbers. A term is weight * value in double (one rounding, to nearest even), then rounded to a
// multiple of 2^-60 (to nearest even). That integer q, |q| <= 2^88, is held as q = high * 2^44 + low with
// 0 <= low < 2^44, so 2^19 terms fit both 64-bit limbs and limbs of several sums may be added as integers.
class ExactSum {
 public:
  static constexpr double unit = 0x1p-60;
  static constexpr double term_limit = 0x1p28;            // every |term| is below this
  static constexpr int64_t max_terms = int64_t{1} << 19;  // a number

  explicit ExactSum(size_t n = 0);

  // Adds weight * values[i] to number offset + i. Throws NumericalError for a term that is not finite or too
  // large, and at more than max_terms terms; in both cases nothing was added.
  void add(size_t offset, std::span<const float> values, double weight);
  void add(size_t offset, std::span<const double> values, double weight);

  // Adds a sum of the same size. Throws NumericalError at more than max_terms terms.
  void add(const ExactSum& other);

  // The correctly rounded sum of number i: the double nearest to q * 2^-60.
  double value(size_t i) const;

  // value(offset), value(offset + 1), ... for all of `result`.
  void values(size_t offset, std::span<double> result) const;

  size_t size() const { return size_; }
  void clear();

  // Terms of the number that has most, or more: adds that go through the row once from front to back count as
  // one, a step back begins the next.
  int64_t terms() const { return limbs_.back(); }

  // Throws NumericalError if the limbs, added up over ranks, hold more terms than they can.
  void check_terms() const;

  // low [n], high [n], terms [1]: what an all-reduce adds up, element by element. Call check_terms
  // afterwards.
  std::span<int64_t> limbs() { return limbs_; }

 private:
  template <typename Value>
  void add_row(size_t offset, std::span<const Value> values, double weight);

  size_t size_;
  size_t pass_end_;             // the current pass through the row has added nothing from here on
  std::vector<int64_t> limbs_;  // [2 n + 1]
};

}  // namespace pf2lora
