#include "native/pooling_op.h"

#include <gtest/gtest.h>

#include "native/adapters.h"

namespace pf2lora::native {
namespace {

constexpr int64_t kPooledWidth = 11;

class PoolingOperations : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, PoolingOperations, testing::ValuesIn(supported_processors()), processor_name);

template <template <class> class Pooling>
double difference_from_autograd(const Kernels<double>& table, Per per,
                                const std::function<Tensor(const Tensor&)>& reference) {
  const Question question =
      draw_question(batch_with_targets(), {{Per::token, kPooledWidth}}, {per, kPooledWidth}, torch::kFloat64);
  const Build<double> build = [&](Graph<double>& graph, const std::vector<ValueId>& in) {
    return graph.add(std::make_unique<Pooling<double>>(), in, per, kPooledWidth);
  };
  return worst_difference(ask(table, question, build),
                          answer([&](const auto& in) { return reference(in[0]); }, question));
}

TEST_P(PoolingOperations, AgreeWithAutograd) {
  const BatchShape batch = batch_with_targets();
  const auto each_example = [&](const std::function<Tensor(const Tensor&)>& pool, const Tensor& x) {
    std::vector<Tensor> rows;
    for (size_t i = 0; i + 1 < batch.token_offsets.size(); ++i)
      rows.push_back(pool(x.slice(0, batch.token_offsets[i], batch.token_offsets[i + 1])));
    return torch::stack(rows);
  };
  EXPECT_LT(difference_from_autograd<FirstOperation>(
                table(), Per::example,
                [&](const Tensor& x) { return each_example([](const auto& own) { return own[0]; }, x); }),
            1e-15);
  EXPECT_LT(
      difference_from_autograd<MeanOperation>(
          table(), Per::example,
          [&](const Tensor& x) { return each_example([](const auto& own) { return own.mean(0); }, x); }),
      1e-15);
  EXPECT_LT(difference_from_autograd<TargetOperation>(
                table(), Per::target,
                [&](const Tensor& x) { return x.index_select(0, torch::tensor(batch.target_rows)); }),
            1e-15);
}

}  // namespace
}  // namespace pf2lora::native
