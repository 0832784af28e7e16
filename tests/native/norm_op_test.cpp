#include "native/norm_op.h"

#include <gtest/gtest.h>

#include "native/network.h"

namespace pf2lora::native {
namespace {

constexpr double kEpsilon = 1e-3;

class NormOperation : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, NormOperation, testing::ValuesIn(supported_processors()), processor_name);

// A norm of one input, or of the sum of two.
struct Case {
  bool centred;
  size_t addends;
  Tensor gain, shift;

  Case(bool is_centred, size_t inputs, int64_t width, torch::ScalarType type)
      : centred(is_centred), addends(inputs), gain(draw({width}, type)), shift(draw({width}, type)) {}

  template <class T>
  ValueId add(Graph<T>& graph, const std::vector<ValueId>& inputs) const {
    const auto numbers = [](const Tensor& x) { return std::vector<T>(data<T>(x), data<T>(x) + x.numel()); };
    auto norm = centred ? std::make_unique<AddNormOperation<T>>(numbers(gain), numbers(shift), kEpsilon)
                        : std::make_unique<AddNormOperation<T>>(numbers(gain), kEpsilon);
    return graph.add(std::move(norm), inputs, Per::token, gain.size(0));
  }
  Tensor reference(const std::vector<Tensor>& in) const {
    Tensor x = addends == 2 ? in[0] + in[1] : in[0];
    if (centred) x = x - x.mean(1, true);
    const Tensor normal = x / (x.square().mean(1, true) + kEpsilon).sqrt() * gain.to(torch::kFloat64);
    return centred ? normal + shift.to(torch::kFloat64) : normal;
  }
};

template <class T, class Check>
void each_case(const Check& check) {
  for (const bool centred : {true, false})
    for (const size_t addends : {1, 2}) {
      const Case norm(centred, addends, 37, type_of<T>());
      const std::vector<ValueShape> inputs(addends, {Per::token, 37});
      check(norm, draw_question(ragged_batch(), inputs, {Per::token, 37}, type_of<T>()),
            [=](auto& graph, const auto& values) { return norm.template add<T>(graph, values); });
    }
}

template <class T>
double worst(const Kernels<T>& table) {
  double worst = 0;
  each_case<T>([&](const Case& norm, const Question& question, const Build<T>& build) {
    worst = std::max(worst, difference_from_autograd<T>(table, question, build,
                                                        [&](const auto& in) { return norm.reference(in); }));
  });
  return worst;
}

TEST_P(NormOperation, AgreesWithAutograd) {
  EXPECT_LT(worst(table<double>()), 1e-12);
  EXPECT_LT(worst(table<float>()), 2e-5);
}

TEST_P(NormOperation, ExampleHasTheSameBitsInAnyCompany) {
  each_case<float>([&](const Case&, const Question& question, const Build<float>& build) {
    EXPECT_TRUE(same_bits_in_any_company(table<float>(), question, build));
  });
}

}  // namespace
}  // namespace pf2lora::native
