// PF2LoRA's exact hypergradient of every architecture and task, in double, against central differences of the
// objective, which ask the model for losses and gradients alone.
#include <gtest/gtest.h>

#include <iostream>

#include "algorithm/bare_problem.h"
#include "algorithm/bilevel_objective.h"
#include "algorithm/pf2lora.h"
#include "model/golden_family.h"

namespace pf2lora {
namespace {

using torch::Tensor;

constexpr double kFamilyClientRate = 0.2;

// A model of a golden file, with nothing around it.
class FamilyProblem final : public BareProblem {
 public:
  FamilyProblem(const FamilyFile& family, const GoldenModel& of) : comparison_(family.golden, of) {}

  Batch batch(const std::vector<std::vector<int64_t>>& rows) const { return comparison_.batch({0, 1}, rows); }

  const Model& model() const override { return comparison_.model(); }

 private:
  Comparison comparison_;
};

Tensor hypergradient(const FamilyProblem& problem, const Options& options, const std::string& mode,
                     const std::array<Tensor, 2>& at, const Batch& lower, const Batch& upper) {
  Pf2LoraOptions own;
  own.hypergradient = mode;
  return Pf2Lora(options, own, problem)
      .bilevel_step(at[0], at[1], lower, upper, kFamilyClientRate)
      .hypergradient;
}

struct SlopeErrors {
  double exact = 0, first_order = 0;  // relative, of the worse client
};

// Along a random direction of length 1 within each slice of x (A or B of a site, or a part of the head).
SlopeErrors slope_errors(const FamilyProblem& problem) {
  Options options;
  options.rank = 2;
  options.client_rank = 2;
  const Batch lower = problem.batch({{1, 3, 4}, {2, 6}}), upper = problem.batch({{5, 7}, {1, 9, 3}});
  const BilevelObjective objective(problem, options, lower, upper, kFamilyClientRate);
  RandomTensors random(5);
  const std::array at = {random.normal({2, objective.common().size()}, 0.2),
                         random.normal({2, objective.client().size()}, 0.2)};
  const Tensor exact = hypergradient(problem, options, "exact", at, lower, upper);
  const Tensor first_order = hypergradient(problem, options, "first-order", at, lower, upper);

  std::vector<Tensor> slopes, of_exact, of_first_order;
  for (const Slice& slice : objective.common().layout().slices()) {
    Tensor along = torch::zeros_like(at[0]);
    const Tensor drawn = random.normal({2, slice.size});
    along.narrow(1, slice.offset, slice.size).copy_(drawn / drawn.norm(2, 1, true));
    slopes.push_back(objective.slope(at[0], at[1], along));
    of_exact.push_back((exact * along).sum(1));
    of_first_order.push_back((first_order * along).sum(1));
  }
  const Tensor expected = torch::stack(slopes, 1);
  SlopeErrors worst;
  for (int64_t g = 0; g < 2; ++g) {
    worst.exact = std::max(worst.exact, relative_error(torch::stack(of_exact, 1)[g], expected[g]));
    worst.first_order =
        std::max(worst.first_order, relative_error(torch::stack(of_first_order, 1)[g], expected[g]));
  }
  return worst;
}

class FamilyHypergradient : public testing::TestWithParam<std::string> {};

TEST_P(FamilyHypergradient, AgreesWithDifferencesOfTheBilevelObjective) {
  const FamilyFile family("family_" + GetParam());
  double worst = 0;
  for (const std::string& readout : family.readouts())
    for (const bool native : family.natives(readout)) {
      SCOPED_TRACE(readout + (native ? " native" : " reference"));
      GoldenModel of = family.model(readout);
      of.native = native;
      const SlopeErrors found = slope_errors(FamilyProblem(family, of));
      EXPECT_LT(found.exact, 1e-6);
      // The mixed term is a part of it that matters, so that leaving it out would be seen.
      EXPECT_GT(found.first_order, 1e-2);
      worst = std::max(worst, found.exact);
    }
  std::cout << GetParam() << ": slopes differ by " << worst << "\n";
}

INSTANTIATE_TEST_SUITE_P(, FamilyHypergradient,
                         testing::Values("bert_pairs", "roberta", "distilbert", "deberta", "gpt2", "llama",
                                         "qwen2"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pf2lora
