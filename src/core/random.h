// Random numbers that need no state: every draw is a function of (seed, purpose, client, round, step, slot)
// and of how many numbers were drawn from that key before. Generator: Threefry-4x64-20 of Random123 (Salmon,
// Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011). No distribution of the standard
// library is used, since those differ between libraries.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace pf2lora {

// What a draw is for. The numbers are part of every key: never change or reuse one.
enum class Purpose : uint64_t {
  common_initial = 1,
  client_initial = 2,
  head_initial = 3,
  cohort = 4,
  partition = 5,
  batch = 6,
  adaptation = 7,
  matrix_problem = 8,
  validation = 9,
  instance_samples = 10,
  gate_initial = 11,
};

// Four random words from a 256-bit key and a 256-bit counter: Threefry-4x64 with 20 rounds.
std::array<uint64_t, 4> threefry(const std::array<uint64_t, 4>& key, const std::array<uint64_t, 4>& counter);

// The stream of numbers of one key. Packing: key = (seed, client, round, step), counter = (block, slot,
// purpose, 0), one 64-bit word each, so different arguments can never meet in the same block, whatever their
// values.
class KeyedRandom {
 public:
  KeyedRandom(uint64_t seed, Purpose purpose, int64_t client = 0, int64_t round = 0, int64_t step = 0,
              int64_t slot = 0);

  uint64_t bits();
  // A multiple of 2^-53 in [0, 1).
  double uniform();
  double uniform(double low, double high);
  // Standard normal (Box, Muller 1958; the cosine branch, two words a number).
  double normal();
  // Unbiased in [0, n) (Lemire: Fast random integer generation in an interval. 2019). n = 0 is
  // invalid_argument.
  uint64_t below(uint64_t n);

  // Logarithm of a Gamma(shape, 1) variate, finite for every shape > 0 (Marsaglia, Tsang: A simple method for
  // generating gamma variables. 2000; below 1 their G(shape) = G(shape + 1) U^(1/shape), taken in
  // logarithms).
  double log_gamma_variate(double shape);
  // Logarithms of Dirichlet(alpha) proportions: finite where the proportions themselves underflow to 0. An
  // alpha that is not positive and finite is invalid_argument.
  std::vector<double> log_dirichlet(std::span<const double> alpha);
  // Dirichlet(alpha) proportions, which sum to 1.
  std::vector<double> dirichlet(std::span<const double> alpha);

  // A uniformly random order (Durstenfeld: Algorithm 235. 1964).
  template <typename T>
  void shuffle(std::span<T> values) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }
  // k different numbers of [0, n) in the order in which they were drawn; k > n is invalid_argument.
  std::vector<int64_t> sample_without_replacement(int64_t n, int64_t k);

 private:
  std::array<uint64_t, 4> key_;
  std::array<uint64_t, 4> counter_;
  std::array<uint64_t, 4> words_{};
  std::size_t used_ = 4;  // words of the current block that were handed out
};

}  // namespace pf2lora
