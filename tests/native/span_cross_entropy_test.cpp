#include "native/span_cross_entropy.h"

#include <gtest/gtest.h>

#include "native/loss.h"

namespace pf2lora::native {
namespace {

class SpanCrossEntropy : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, SpanCrossEntropy, testing::ValuesIn(supported_processors()), processor_name);

const std::vector<TokenSpan> kSpans{{1, 3}, {0, 0}, {2, 16}, {2, 2}, {0, 7}, {1, 1}};  // of ragged_batch()

template <class T>
struct SpanResults {
  Tensor loss, gradient, gradient_tangent;
  SpanResults(const Kernels<T>& table, const Tensor& scores, const Tensor& t_scores,
              std::span<const TokenSpan> spans, const BatchShape& batch)
      : loss(torch::empty({batch.examples()}, type_of<T>())),
        gradient(torch::empty_like(scores)),
        gradient_tangent(torch::empty_like(scores)) {
    span_cross_entropy<T>(table, data<T>(scores), spans, batch, data<T>(loss));
    span_cross_entropy_gradient<T>(table, data<T>(scores), spans, batch, data<T>(gradient));
    span_cross_entropy_gradient_tangent<T>(table, data<T>(scores), data<T>(t_scores), batch,
                                           data<T>(gradient_tangent));
  }
};

// As in transformers: the mean of the cross-entropies of the first and the last token.
Tensor losses(const Tensor& scores, const BatchShape& batch) {
  std::vector<Tensor> losses;
  for (size_t i = 0; i < kSpans.size(); ++i) {
    const Tensor own = scores.slice(0, batch.token_offsets[i], batch.token_offsets[i + 1]).log_softmax(0);
    losses.push_back(-(own[kSpans[i].first][0] + own[kSpans[i].last][1]) / 2);
  }
  return torch::stack(losses);
}

template <class T>
double difference_from_autograd(const Kernels<T>& table) {
  const BatchShape batch = ragged_batch();
  const Tensor scores = 3 * draw({36, 2}, type_of<T>()), t_scores = draw({36, 2}, type_of<T>());
  const SpanResults<T> ours(table, scores, t_scores, kSpans, batch);
  const LossDerivatives theirs = LossDerivatives::of(
      [&](const Tensor& x) { return sum_of_client_means(losses(x, batch), batch, Per::example); }, scores,
      t_scores);
  return std::max(difference(ours.loss, losses(scores.to(torch::kFloat64), batch)),
                  LossDerivatives{theirs.loss, ours.gradient, ours.gradient_tangent}.difference_from(theirs));
}

TEST_P(SpanCrossEntropy, AgreesWithAutograd) {
  EXPECT_LT(difference_from_autograd(table<double>()), 1e-12);
  EXPECT_LT(difference_from_autograd(table<float>()), 2e-5);
}

TEST_P(SpanCrossEntropy, ExampleHasTheSameBitsInAnyCompany) {
  BatchShape batch = ragged_batch();
  batch.client_examples = {0, 1, 2, 3, 4, 5, 6};
  const Tensor scores = draw({36, 2}, torch::kFloat32), t_scores = draw({36, 2}, torch::kFloat32);
  const SpanResults<float> all(table<float>(), scores, t_scores, kSpans, batch);
  for (int64_t i = 0; i < batch.examples(); ++i) {
    const int64_t begin = batch.token_offsets[size_t(i)], count = batch.token_offsets[size_t(i) + 1] - begin;
    const auto part = [&](const Tensor& x) { return x.narrow(0, begin, count); };
    const SpanResults<float> own(table<float>(), part(scores), part(t_scores), {&kSpans[size_t(i)], 1},
                                 {{0, count}, {0, 1}});
    EXPECT_TRUE(same_bits(own.loss, all.loss.narrow(0, i, 1)));
    EXPECT_TRUE(same_bits(own.gradient, part(all.gradient)));
    EXPECT_TRUE(same_bits(own.gradient_tangent, part(all.gradient_tangent)));
  }
}

}  // namespace
}  // namespace pf2lora::native
