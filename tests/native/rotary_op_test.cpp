#include "native/rotary_op.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "native/network.h"

namespace pf2lora::native {
namespace {

class RotaryOperations : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, RotaryOperations, testing::ValuesIn(supported_processors()), processor_name);

struct Rotation {
  int64_t heads, width;
  std::vector<double> frequencies;
  ValueShape value() const { return {Per::token, heads * width}; }
};

template <class T>
ValueId add(Graph<T>& graph, ValueId x, const Rotation& c, int64_t positions) {
  const auto table = std::make_shared<const RotaryTable<T>>(c.frequencies, positions);
  return graph.add(std::make_unique<RotaryOperation<T>>(c.heads, c.width, table), {x}, Per::token,
                   c.heads * c.width);
}

// As in transformers: x cos + rotate_half(x) sin, with the angles of a position twice, one for each half.
Tensor reference(const Rotation& c, const BatchShape& batch, const Tensor& x) {
  const int64_t turned = 2 * int64_t(c.frequencies.size());
  const Tensor frequencies = torch::tensor(c.frequencies, torch::kFloat64);
  std::vector<Tensor> examples;
  for (size_t i = 0; i + 1 < batch.token_offsets.size(); ++i) {
    const int64_t begin = batch.token_offsets[i], tokens = batch.token_offsets[i + 1] - begin;
    const Tensor half = torch::outer(torch::arange(tokens, torch::kFloat64), frequencies);
    const Tensor angles = torch::cat({half, half}, 1).unsqueeze(1);
    const Tensor own = x.narrow(0, begin, tokens).view({tokens, c.heads, c.width});
    const Tensor part = own.narrow(2, 0, turned), rest = own.narrow(2, turned, c.width - turned);
    const auto halves = part.chunk(2, 2);
    const Tensor rotated = torch::cat({-halves[1], halves[0]}, 2);
    const Tensor y = torch::cat({part * angles.cos() + rotated * angles.sin(), rest}, 2);
    examples.push_back(y.reshape({tokens, c.heads * c.width}));
  }
  return torch::cat(examples);
}

TEST_P(RotaryOperations, AgreesWithAutograd) {
  for (const Rotation& c : {Rotation{2, 64, rotary_frequencies(10'000, 64)},
                            Rotation{3, 10, rotary_frequencies(1e6, 10)}, Rotation{1, 24, {1, 0.3, 0.02}}}) {
    const Function function(
        [=](auto& graph, const auto& in) { return add(graph, in[0], c, 17); },
        [=](const std::vector<Tensor>& in) { return reference(c, ragged_batch(), in[0]); });
    check(GetParam(), function, {c.value()}, c.value());
  }
}

// Products of turned queries and keys depend on how far they stand apart alone.
TEST_P(RotaryOperations, ProductsDependOnTheDistance) {
  const Rotation c{1, 32, rotary_frequencies(10'000, 32)};
  const Tensor x = draw({1, 32}).repeat({40, 1});
  const BatchShape batch{{0, 40}, {0, 1}};
  const Question question{batch, {Per::token}, {x}, {x}, x, x};
  const Build<double> build = [&](auto& graph, const auto& in) { return add(graph, in[0], c, 40); };
  const Tensor y = ask(table<double>(), question, build).value, products = torch::mm(y, y.t());
  for (int64_t apart = 0; apart < 40; ++apart)
    EXPECT_LT(difference(products.diagonal(apart), products[0][apart].expand({40 - apart})), 1e-13);
}

TEST(RotaryFrequencies, FallFromOneGeometrically) {
  const auto frequencies = rotary_frequencies(10'000, 8);
  ASSERT_EQ(frequencies.size(), 4);
  for (size_t j = 0; j < 4; ++j) EXPECT_NEAR(frequencies[j], std::pow(10, -double(j)), 1e-15);
}

TEST(RotaryTables, EndWhereTheyWereMadeTo) {
  const Rotation c{1, 4, {1, 0.1}};
  const Question question = draw_question(ragged_batch(), {c.value()}, c.value(), torch::kFloat64);
  const Build<double> build = [&](auto& graph, const auto& in) { return add(graph, in[0], c, 16); };
  EXPECT_THROW(ask(kernels<double>(), question, build), InputError);
}

}  // namespace
}  // namespace pf2lora::native
