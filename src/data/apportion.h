// Whole numbers in given proportions: how many examples of each class a client gets.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pf2lora {

// A table [clients, classes].
template <typename T>
class Table {
 public:
  Table(int64_t clients, int64_t classes)
      : clients_(clients), classes_(classes), values_(clients * classes) {}
  int64_t clients() const { return clients_; }
  int64_t classes() const { return classes_; }
  std::span<T> row(int64_t client) { return std::span<T>(values_).subspan(client * classes_, classes_); }
  std::span<const T> row(int64_t client) const {
    return std::span<const T>(values_).subspan(client * classes_, classes_);
  }

 private:
  int64_t clients_;
  int64_t classes_;
  std::vector<T> values_;
};
using Counts = Table<int64_t>;

int64_t sum(std::span<const int64_t> counts);

// Non-negative whole numbers that sum to `total`, each within 1 of its share: floors, then one more for the
// largest remainders (Hamilton's method); the lower index where remainders are equal. Entries of weight 0 get
// 0. Weights that are not finite, negative or all 0 (with total > 0) are invalid_argument.
std::vector<int64_t> largest_remainder(std::span<const double> weights, int64_t total);
std::vector<int64_t> largest_remainder(std::span<const int64_t> weights, int64_t total);

// As largest_remainder, but entry i is at most caps[i]; what does not fit goes to the others in proportion.
// invalid_argument when the caps sum to less than `total`.
std::vector<int64_t> capped_largest_remainder(std::span<const int64_t> weights, std::span<const int64_t> caps,
                                              int64_t total);

// What was given: `counts`, how many of them only because another class had run out, and what was not given.
struct Filled {
  Counts counts;
  int64_t moved = 0;
  std::vector<int64_t> missing;  // [clients]
};

// Gives client k `need[k]` examples in proportions exp(log_weights[k]) over the classes, out of `supply`,
// from which they are taken. Where the clients together want more of a class than there is, each gets the
// same part of what it wants of it (no client goes first; `priority` decides between equal remainders), and
// the rest of its need falls on the classes that it still finds, in its own proportions. A weight of
// -infinity excludes a class. A client that finds no class is left with an open need. At most classes + 1
// passes.
Filled fill(const Table<double>& log_weights, std::vector<int64_t> need, std::vector<int64_t>& supply,
            std::span<const int64_t> priority);

// The part of a client's examples that may differ from the given proportions when a class runs out, before
// the client gets fewer examples instead.
inline constexpr double kProportionTolerance = 0.02;

// Gives client k up to `target[k]` examples in the proportions of model[k], out of `supply`, from which they
// are taken. Where classes are short, all sets grow together, as parts of their targets, and a set stops
// growing where its proportions would change by more than kProportionTolerance (at one example at the
// earliest); in a class that runs out, those with the largest proportions of it are cut first. `missing`
// counts against the target, `moved` what a client has of a class beyond its share rounded up. Classes
// without supply are left out of the proportions.
Filled fill_in_proportion(const Counts& model, const std::vector<int64_t>& target,
                          std::vector<int64_t>& supply, std::span<const int64_t> priority);

}  // namespace pf2lora
