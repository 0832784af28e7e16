// What clients would deploy, measured on their own test examples.
#pragma once
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "simulation/client_store.h"

namespace pf2lora {

// Of one model on one client's test examples; NaN where there is none.
struct Score {
  double correct = std::numeric_limits<double>::quiet_NaN();  // examples
  double loss =
      std::numeric_limits<double>::quiet_NaN();  // summed over examples, nats; f_k in the matrix problem
};

struct ClientScores {
  int64_t client = 0;
  Score common, personal;
  std::vector<Score> adapted;  // after each of the given numbers of local steps on a copy

  // As numbers, for the way to rank 0, and back.
  std::vector<double> pack() const;
  static ClientScores unpack(std::span<const double> numbers);
};

// The numbers of local steps that --adaptation-steps means for this method.
std::vector<int64_t> adaptation_steps(const Options& options, const Algorithm& algorithm);

// Scores one client after round `round`, with the common row [common layout]. Throws NumericalError.
ClientScores evaluate(const Algorithm& algorithm, const Problem& problem, const ClientStore& store,
                      int64_t client, const torch::Tensor& common,
                      const std::vector<int64_t>& adaptation_steps, int64_t round);

}  // namespace pf2lora
