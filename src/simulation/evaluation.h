// What clients would deploy, measured on their own examples. A group of clients is evaluated in lockstep, as
// it trains.
#pragma once
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "simulation/client_store.h"

namespace pf2lora {

// What an evaluation measures.
struct ScoreShape {
  std::vector<int64_t> adaptation_steps;  // numbers of local steps on a copy, rising
  bool validation = false;                // on validation examples too
  int64_t confusion_classes = 0;          // of confusion matrices; 0: none
  bool right_answers = false;             // counted; not of a regression, nor of the matrix problem
  bool correlations = false;              // of a regression
};
ScoreShape score_shape(const Options& options, const Algorithm& algorithm, const Problem& problem);

// Of one model on one client's examples, whose units are the tokens to be generated, else the examples
// themselves; NaN where there is none.
struct Score {
  double correct = std::numeric_limits<double>::quiet_NaN();  // units
  double loss =
      std::numeric_limits<double>::quiet_NaN();  // summed over units, nats; f_k in the matrix problem
  // Correlations of what is predicted with what is right.
  double pearson = std::numeric_limits<double>::quiet_NaN();
  double spearman = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> confusion;  // [classes, classes] examples by class and prediction
};

struct SplitScores {
  Score common, personal;
  std::vector<Score> adapted;  // one for each number of adaptation steps
};

struct ClientScores {
  int64_t client = 0;
  SplitScores test, validation;

  // As numbers, for the way to rank 0, and back.
  std::vector<double> pack() const;
  static ClientScores unpack(std::span<const double> numbers, const ScoreShape& shape);
};

// Scores the clients of a group, with their rows after round `round`, and after each number of adaptation
// steps at once. Throws NumericalError.
std::vector<ClientScores> evaluate(const Algorithm& algorithm, const Problem& problem,
                                   const ClientGroup& group, const ScoreShape& shape, int64_t round);

}  // namespace pf2lora
