#include "native/cross_entropy.h"

#include <gtest/gtest.h>

#include "native/adapters.h"
#include "native/client_mean.h"
#include "native/loss.h"

namespace pf2lora::native {
namespace {

class CrossEntropy : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, CrossEntropy, testing::ValuesIn(supported_processors()), processor_name);

// Of batch_with_targets().
struct TargetRows {
  Tensor scores, t_scores, labels;
  TargetRows(int64_t vocabulary, torch::ScalarType type)
      : scores(3 * draw({9, vocabulary}, type)),
        t_scores(draw({9, vocabulary}, type)),
        labels(torch::randint(vocabulary, {9}, torch::kInt32)) {}
};

// Of each row: its loss, the gradient of its client's, and the derivative of that.
template <class T>
struct TokenResults {
  Tensor loss, predicted, gradient, gradient_tangent;
  TokenResults(const Kernels<T>& table, const TargetRows& rows, const std::vector<T>& weights)
      : loss(torch::empty({rows.scores.size(0)}, type_of<T>())),
        predicted(torch::empty({rows.scores.size(0)}, torch::kInt64)),
        gradient(torch::empty_like(rows.scores)),
        gradient_tangent(torch::empty_like(rows.scores)) {
    const auto scores = numbers_of<T>(rows.scores);
    const auto labels = numbers_of<int32_t>(rows.labels);
    cross_entropy<T>(table, scores, labels, data<T>(loss), data<int64_t>(predicted));
    cross_entropy_gradient<T>(table, scores, labels, weights, data<T>(gradient));
    cross_entropy_gradient_tangent<T>(table, scores, data<T>(rows.t_scores), weights,
                                      data<T>(gradient_tangent));
  }
};

template <class T>
double worst_cross_entropy(const Kernels<T>& table) {
  double worst = 0;
  for (const int64_t vocabulary : {1, 2, 7, 64, 1001, 50'257}) {
    const TargetRows rows(vocabulary, type_of<T>());
    const TokenResults<T> ours(table, rows, client_mean_weights<T>(batch_with_targets(), Per::target));
    const auto losses = [&](const Tensor& scores) {
      return torch::cross_entropy_loss(scores, rows.labels.to(torch::kInt64), {}, at::Reduction::None);
    };
    const LossDerivatives theirs = LossDerivatives::of(
        [&](const Tensor& scores) {
          return sum_of_client_means(losses(scores), batch_with_targets(), Per::target);
        },
        rows.scores, rows.t_scores);
    worst = std::max(
        {worst, difference(ours.loss, losses(rows.scores.to(torch::kFloat64))),
         LossDerivatives{theirs.loss, ours.gradient, ours.gradient_tangent}.difference_from(theirs)});
    EXPECT_TRUE(torch::equal(ours.predicted, rows.scores.argmax(1)));
  }
  return worst;
}

TEST_P(CrossEntropy, AgreesWithAutograd) {
  EXPECT_LT(worst_cross_entropy(table<double>()), 1e-12);
  EXPECT_LT(worst_cross_entropy(table<float>()), 2e-5);
}

TEST_P(CrossEntropy, RowHasTheSameBitsInAnyCompanyAndInPlace) {
  const TargetRows all(1001, torch::kFloat32);
  const std::vector<float> weights(9, 0.3f);
  const TokenResults<float> together(table<float>(), all, weights);
  for (int64_t i = 0; i < 9; ++i) {
    TargetRows one = all;
    for (Tensor* part : {&one.scores, &one.t_scores, &one.labels}) *part = part->narrow(0, i, 1);
    const TokenResults<float> alone(table<float>(), one, {0.3f});
    for (const auto member : {&TokenResults<float>::loss, &TokenResults<float>::predicted,
                              &TokenResults<float>::gradient, &TokenResults<float>::gradient_tangent})
      ASSERT_TRUE(same_bits(alone.*member, (together.*member).narrow(0, i, 1)));
  }
  const Tensor scores = all.scores.clone(), t_scores = all.t_scores.clone();
  cross_entropy_gradient_tangent<float>(table<float>(), numbers_of<float>(scores), data<float>(t_scores),
                                        weights, data<float>(t_scores));
  EXPECT_TRUE(same_bits(t_scores, together.gradient_tangent));
  cross_entropy_gradient<float>(table<float>(), numbers_of<float>(scores), numbers_of<int32_t>(all.labels),
                                weights, data<float>(scores));
  EXPECT_TRUE(same_bits(scores, together.gradient));
}

TEST_P(CrossEntropy, LargeScoresDoNotOverflow) {
  TargetRows rows(1001, torch::kFloat32);
  rows.scores *= 1e4;
  const TokenResults<float> ours(table<float>(), rows, std::vector<float>(9, 1));
  const Tensor theirs = torch::cross_entropy_loss(rows.scores.to(torch::kFloat64),
                                                  rows.labels.to(torch::kInt64), {}, at::Reduction::None);
  EXPECT_LT(difference(ours.loss, theirs), 1e-6);
  EXPECT_TRUE(ours.gradient_tangent.isfinite().all().item<bool>());
}

TEST_P(CrossEntropy, NoRowsHaveNoLoss) {
  cross_entropy<float>(table<float>(), {}, {}, nullptr, nullptr);
  cross_entropy_gradient<float>(table<float>(), {}, {}, {}, nullptr);
  cross_entropy_gradient_tangent<float>(table<float>(), {}, nullptr, {}, nullptr);
}

}  // namespace
}  // namespace pf2lora::native
