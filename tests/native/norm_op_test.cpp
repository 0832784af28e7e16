#include "native/norm_op.h"

#include <gtest/gtest.h>

#include "native/network.h"

namespace pf2lora::native {
namespace {

constexpr int64_t kNormWidth = 37;
constexpr double kNormEpsilon = 1e-3;

class NormOperation : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, NormOperation, testing::ValuesIn(supported_processors()), processor_name);

template <class T>
std::vector<T> numbers(const Tensor& x) {
  const Tensor own = x.to(type_of<T>());
  return {data<T>(own), data<T>(own) + own.numel()};
}

// A norm of one input, or of the sum of two, by definition.
Function norm(bool centred) {
  // Exact in float too.
  const Tensor gain = draw({kNormWidth}, torch::kFloat32).to(torch::kFloat64);
  const Tensor shift = draw({kNormWidth}, torch::kFloat32).to(torch::kFloat64);
  return {[=]<class T>(Graph<T>& graph, const std::vector<ValueId>& inputs) {
            auto norm = centred ? std::make_unique<AddNormOperation<T>>(numbers<T>(gain), numbers<T>(shift),
                                                                        kNormEpsilon)
                                : std::make_unique<AddNormOperation<T>>(numbers<T>(gain), kNormEpsilon);
            return graph.add(std::move(norm), inputs, Per::token, kNormWidth);
          },
          [=](const std::vector<Tensor>& in) {
            Tensor x = in.size() == 2 ? in[0] + in[1] : in[0];
            if (centred) x = x - x.mean(1, true);
            const Tensor scaled = x / (x.square().mean(1, true) + kNormEpsilon).sqrt() * gain;
            return centred ? scaled + shift : scaled;
          }};
}

TEST_P(NormOperation, AgreesWithAutogradOfOneInputAndOfTwo) {
  const ValueShape value{Per::token, kNormWidth}, constant{Per::token, kNormWidth, /*active=*/false};
  for (const bool centred : {true, false})
    for (const auto& inputs : {std::vector{value}, {value, value}, {value, constant}, {constant, value}})
      check(GetParam(), norm(centred), inputs, value);
}

}  // namespace
}  // namespace pf2lora::native
