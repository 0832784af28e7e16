#include "native/head_op.h"

#include <gtest/gtest.h>

#include "native/adapters.h"

namespace pf2lora::native {
namespace {

constexpr int64_t kHeadIn = 21, kClasses = 2;

class HeadOperations : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, HeadOperations, testing::ValuesIn(supported_processors()), processor_name);

template <class T>
double difference_from_autograd(const Kernels<T>& table, Per per) {
  const BatchShape batch = batch_with_targets();
  const AdapterQuestion question{draw_question(batch, {{per, kHeadIn}}, {per, kClasses}, type_of<T>()),
                                 ClientAdapters::heads(batch.clients(), kClasses, kHeadIn, type_of<T>()),
                                 ClientAdapters::heads(batch.clients(), kClasses, kHeadIn, type_of<T>()),
                                 {}};
  const Build<T> build = [&](Graph<T>& graph, const std::vector<ValueId>& in) {
    return graph.add(std::make_unique<HeadOperation<T>>(kHeadIn), in, per, kClasses);
  };
  const auto reference = [&](const std::vector<Tensor>& in) {
    std::vector<Tensor> rows;
    for (int64_t g = 0; g < batch.clients(); ++g)
      rows.push_back(torch::addmm(in[size_t(1 + batch.clients() + g)],
                                  in[0].slice(0, batch.begin(per, g), batch.begin(per, g + 1)),
                                  in[size_t(1 + g)].t()));
    return torch::cat(rows);
  };
  return worst_difference(ask<T>(table, question, {kClasses, kHeadIn}, build), answer(reference, question));
}

TEST_P(HeadOperations, AgreeWithAutogradPerTokenExampleAndTarget) {
  for (const Per per : {Per::token, Per::example, Per::target}) {
    EXPECT_LT(difference_from_autograd(table<double>(), per), 1e-12);
    EXPECT_LT(difference_from_autograd(table<float>(), per), 2e-5);
  }
}

}  // namespace
}  // namespace pf2lora::native
