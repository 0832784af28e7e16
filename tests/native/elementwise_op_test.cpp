#include "native/elementwise_op.h"

#include <gtest/gtest.h>

#include <cstring>

#include "native/activation_op.h"
#include "native/network.h"

namespace pf2lora::native {
namespace {

constexpr ValueShape kValue{Per::token, 21}, kConstant{Per::token, 21, /*active=*/false};

class ElementwiseOperations : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, ElementwiseOperations, testing::ValuesIn(supported_processors()), processor_name);

template <template <class> class Made, class T>
ValueId add(Graph<T>& graph, std::vector<ValueId> inputs, auto... arguments) {
  return graph.add(std::make_unique<Made<T>>(arguments...), std::move(inputs), kValue.per, kValue.width);
}

TEST_P(ElementwiseOperations, SumAgreesWithAutograd) {
  const Function sum([](auto& graph, const auto& in) { return add<AddOperation>(graph, in); },
                     [](const auto& in) { return in[0] + in[1]; });
  for (const auto& inputs : {std::vector{kValue, kValue}, {kValue, kConstant}, {kConstant, kValue}})
    check(GetParam(), sum, inputs, kValue);
}

TEST_P(ElementwiseOperations, ProductAgreesWithAutograd) {
  const Function product([](auto& graph, const auto& in) { return add<MultiplyOperation>(graph, in); },
                         [](const auto& in) { return in[0] * in[1]; });
  for (const auto& inputs : {std::vector{kValue, kValue}, {kValue, kConstant}, {kConstant, kValue}})
    check(GetParam(), product, inputs, kValue);
}

TEST_P(ElementwiseOperations, ValueMayBeBothInputs) {
  const Function function(
      [](auto& graph, const auto& in) {
        const ValueId sum = add<AddOperation>(graph, {in[0], in[0]});
        return add<MultiplyOperation>(graph, {sum, sum});
      },
      [](const auto& in) { return (2 * in[0]).square(); });
  check(GetParam(), function, {kValue}, kValue);
}

// Gradients that the inputs of a sum share are not shared any more once more comes to one of them.
TEST_P(ElementwiseOperations, ChainOfResidualSumsAgreesWithAutograd) {
  const Function chain(
      [](auto& graph, const auto& in) {
        ValueId x = in[0];
        for (size_t i = 1; i < in.size(); ++i) {
          const ValueId branch = add<ActivationOperation>(graph, {x}, Activation::silu);
          x = add<AddOperation>(graph, {x, add<AddOperation>(graph, {branch, in[i]})});
        }
        return x;
      },
      [](const auto& in) {
        Tensor x = in[0];
        for (size_t i = 1; i < in.size(); ++i) x = x + (torch::silu(x) + in[i]);
        return x;
      });
  check(GetParam(), chain, {kValue, kValue, kConstant, kValue}, kValue);
}

// An activation is written over its input, unless that is asked for or read by others.
TEST_P(ElementwiseOperations, ActivationOfSumAgreesWithAutograd) {
  const Function function(
      [](auto& graph, const auto& in) {
        const ValueId sum = add<AddOperation>(graph, in);
        const ValueId active = add<ActivationOperation>(graph, {sum}, Activation::tanh);
        return add<ActivationOperation>(graph, {active}, Activation::silu);
      },
      [](const auto& in) { return torch::silu(torch::tanh(in[0] + in[1])); });
  for (const auto& inputs : {std::vector{kValue, kValue}, {kValue, kConstant}})
    check(GetParam(), function, inputs, kValue);
}

TEST_P(ElementwiseOperations, ActivationLeavesWhatIsAskedFor) {
  Graph<float> graph;
  const ValueId input = graph.input(kValue.per, kValue.width);
  const ValueId active = add<ActivationOperation>(graph, {input}, Activation::tanh);
  const Tensor x = draw({36, kValue.width}, torch::kFloat32);
  Pool<float> pool;
  Pass<float> pass(kernels<float>(GetParam()), pool, ragged_batch(), Reach::value);
  graph.prepare(pass);
  pass.value[size_t(input)] = pool.take(x.numel());
  std::copy_n(data<float>(x), x.numel(), pass.value[size_t(input)].get());
  graph.value(pass, std::array{input, active});
  EXPECT_EQ(0, std::memcmp(pass.value[size_t(input)].get(), data<float>(x), x.nbytes()));
}

TEST_P(ElementwiseOperations, GatedLinearUnitAgreesWithAutograd) {
  const Function gated(
      [](auto& graph, const auto& in) {
        const ValueId gate = add<ActivationOperation>(graph, {in[0]}, Activation::silu);
        return add<MultiplyOperation>(graph, {gate, in[1]});
      },
      [](const auto& in) { return torch::silu(in[0]) * in[1]; });
  for (const auto& inputs : {std::vector{kValue, kValue}, {kValue, kConstant}, {kConstant, kValue}})
    check(GetParam(), gated, inputs, kValue);
}

}  // namespace
}  // namespace pf2lora::native
