#include "model/matrix_model.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "core/error.h"
#include "model/matrix_problem.h"
#include "model/small_transformer.h"

namespace pf2lora {
namespace {

using torch::Tensor;

struct MatrixCase {
  MatrixModel model;
  Batch batch;
  AdapterSet at, along;
};

// Clients 2 and 0 of three; with a dense update and rank weights, or without.
MatrixCase make_case(bool constants = false) {
  RandomTensors random(1);
  MatrixModel model(random.normal({3, 7, 5}));
  Batch batch;
  batch.clients = {2, 0};
  AdapterSet at = random_adapters(model, 2, 3, 2), along = random_adapters(model, 2, 3, 3);
  if (constants) {
    at.dense = {random.normal({7, 5})};
    at.rank_weights = random.normal({2, 3});
  }
  return {std::move(model), batch, at, along};
}

// f_k by its definition, on tensors that autograd follows.
Tensor objective(const MatrixCase& c, const Tensor& down, const Tensor& up) {
  const Tensor targets = c.model.targets();
  const Tensor weights =
      c.at.rank_weights.defined() ? c.at.rank_weights : torch::ones({2, 3}, torch::kFloat64);
  Tensor matrix = torch::matmul(up, torch::matmul(torch::diag_embed(weights), down));
  if (!c.at.dense.empty()) matrix = matrix + c.at.dense[0];
  return 0.5 * (matrix - torch::stack({targets[2], targets[0]})).pow(2).sum({1, 2});
}

TEST(MatrixModel, GradientAndTangentAgreeWithAutograd) {
  for (const bool constants : {false, true}) {
    const MatrixCase c = make_case(constants);
    const Tensor down = c.at.pairs[0].down.clone().requires_grad_();
    const Tensor up = c.at.pairs[0].up.clone().requires_grad_();
    const Tensor loss = objective(c, down, up);
    const auto gradients = torch::autograd::grad({loss.sum()}, {down, up}, {}, true, true);
    const auto tangents = torch::autograd::grad({gradients[0], gradients[1]}, {down, up}, c.along.tensors());

    Gradient found = c.model.gradient(c.batch, c.at, Keep::pass);
    EXPECT_LT(relative_error(found.loss, loss), 1e-14);
    EXPECT_LT(relative_error(c.model.loss(c.batch, c.at).loss, loss), 1e-14);
    EXPECT_LT(relative_error(found.rows.pairs[0].down, gradients[0]), 1e-14);
    EXPECT_LT(relative_error(found.rows.pairs[0].up, gradients[1]), 1e-14);
    const AdapterSet tangent = c.model.tangent(*found.pass, c.along);
    EXPECT_LT(relative_error(tangent.pairs[0].down, tangents[0]), 1e-14);
    EXPECT_LT(relative_error(tangent.pairs[0].up, tangents[1]), 1e-14);
  }
}

TEST(MatrixModel, OutputItsLossAndPullbackMakeTheGradient) {
  const MatrixCase c = make_case(true);
  const Gradient gradient = c.model.gradient(c.batch, c.at, Keep::nothing);
  Output output = c.model.output(c.batch, c.at, Keep::pass);
  ASSERT_EQ(output.values.sizes(), (std::vector<int64_t>{2, 35}));
  const OutputLoss loss = c.model.output_loss(c.batch, output.values);
  EXPECT_LT(relative_error(loss.loss, gradient.loss), 1e-14);
  EXPECT_TRUE(torch::equal(loss.examples.loss, loss.loss));
  EXPECT_LT(relative_error(rows_of(c.model.pullback(*output.pass, loss.cotangent)), rows_of(gradient.rows)),
            1e-14);
  EXPECT_EQ(c.model.output(c.batch, c.at, Keep::nothing).pass, nullptr);
}

TEST(MatrixModel, WithoutAPairIsItsDenseUpdate) {
  MatrixCase c = make_case(true);
  c.at.pairs[0] = {};
  const Tensor expected = 0.5 * (c.at.dense[0] - c.model.targets()).square().sum({1, 2});
  const Tensor loss = c.model.loss(c.batch, c.at).loss;
  EXPECT_LT(relative_error(loss, torch::stack({expected[2], expected[0]})), 1e-14);
  EXPECT_TRUE(c.model.gradient(c.batch, c.at, Keep::nothing).rows.tensors().empty());
}

TEST(MatrixModel, RefusesWhatNeedsTokens) {
  MatrixCase c = make_case();
  EXPECT_THROW(c.model.features(c.batch), OptionError);
  EXPECT_FALSE(c.model.prompt_room().has_value());
  c.at.prompt = torch::zeros({2, 1, 5}, torch::kFloat64);
  EXPECT_THROW(c.model.loss(c.batch, c.at), OptionError);
}

TEST(MatrixModel, GradientAndTangentAgreeWithCentralDifferences) {
  const MatrixCase c = make_case();
  const double h = 1e-5;
  const auto loss = [&](double t) { return c.model.loss(c.batch, add(c.at, t, c.along)).loss; };
  const auto gradient = [&](double t) {
    return rows_of(c.model.gradient(c.batch, add(c.at, t, c.along), Keep::nothing).rows);
  };
  Gradient found = c.model.gradient(c.batch, c.at, Keep::pass);
  const Tensor slope = (rows_of(found.rows) * rows_of(c.along)).sum(1);
  EXPECT_LT(relative_error((loss(h) - loss(-h)) / (2 * h), slope), 1e-8);
  EXPECT_LT(
      relative_error((gradient(h) - gradient(-h)) / (2 * h), rows_of(c.model.tangent(*found.pass, c.along))),
      1e-8);
}

// The pass holds its own copy: rows are changed in place between a gradient and its tangent.
TEST(MatrixModel, TangentBelongsToTheRowsOfItsGradient) {
  MatrixCase c = make_case();
  Gradient one = c.model.gradient(c.batch, c.at, Keep::pass),
           two = c.model.gradient(c.batch, c.at, Keep::pass);
  const Tensor before = rows_of(c.model.tangent(*one.pass, c.along));
  for (Tensor& tensor : c.at.tensors()) tensor.add_(1);
  EXPECT_TRUE(torch::equal(rows_of(c.model.tangent(*two.pass, c.along)), before));
}

TEST(DrawMatrixTargets, HasTheGivenSingularValues) {
  for (int64_t seed = 1; seed <= 5; ++seed) {
    const Tensor targets = draw_matrix_targets(seed, 3, 10, 8, {3, 2.5, 2}, {{}, {2.4, 2.2}});
    const auto expect = [&](const Tensor& matrix, std::vector<double> values) {
      values.resize(8, 0);
      EXPECT_LT(largest_difference(torch::linalg_svdvals(matrix), torch::tensor(values, torch::kFloat64)),
                1e-13);
    };
    expect(targets[0], {3, 2.5, 2});
    expect(targets[1], {3, 2.5, 2.4, 2.2, 2});
    expect(targets[2], {3, 2.5, 2});  // the lists begin again
    EXPECT_TRUE(torch::equal(targets[0], targets[2]));
    // What client 1 adds is orthogonal to the common part on both sides.
    const Tensor own = targets[1] - targets[0];
    expect(own, {2.4, 2.2});
    EXPECT_LT(own.t().mm(targets[0]).abs().max().item<double>(), 1e-13);
    EXPECT_LT(own.mm(targets[0].t()).abs().max().item<double>(), 1e-13);
  }
  EXPECT_FALSE(
      torch::equal(draw_matrix_targets(1, 1, 10, 8, {3}, {{}}), draw_matrix_targets(2, 1, 10, 8, {3}, {{}})));
}

TEST(DrawMatrixTargets, RefusesMoreValuesThanTheMatrixHas) {
  try {
    draw_matrix_targets(1, 2, 4, 3, {3, 2}, {{}, {1, 1}});
    FAIL() << "nothing was thrown";
  } catch (const OptionError& error) {
    EXPECT_NE(std::string(error.what()).find("rank 4 does not fit into 4 x 3"), std::string::npos)
        << error.what();
  }
}

TEST(MatrixProblem, KnowsNormAndRankOfItsTargets) {
  Options options;
  options.clients = 2;
  const MatrixProblem problem(options);
  EXPECT_NEAR(problem.target_norm(0), std::sqrt(9 + 6.25 + 4), 1e-13);
  EXPECT_NEAR(problem.target_norm(1), std::sqrt(9 + 6.25 + 4 + 6.25 + 4), 1e-13);
  EXPECT_EQ(problem.target_rank(0), 3);
  EXPECT_EQ(problem.target_rank(1), 5);
  EXPECT_EQ(problem.scale(7), 1);
}

// What training sees may be noisy outputs at a few inputs; evaluation measures against the target.
TEST(MatrixModel, LearnsFromObservationsAndIsMeasuredAgainstTargets) {
  RandomTensors random(6);
  const Tensor targets = random.normal({3, 7, 5});
  for (const int64_t samples : {0, 4}) {
    const MatrixObservations observed = observe_matrices(9, targets, 0.3, samples);
    const MatrixModel model(targets, observed);
    Batch batch;
    batch.clients = {2, 0};
    const AdapterSet at = random_adapters(model, 2, 3, 2), along = random_adapters(model, 2, 3, 3);
    const Tensor down = at.pairs[0].down.clone().requires_grad_();
    const Tensor up = at.pairs[0].up.clone().requires_grad_();
    const auto pick = [](const Tensor& all) { return torch::stack({all[2], all[0]}); };
    const Tensor matrix = torch::matmul(up, down);
    const Tensor loss =
        samples == 0
            ? 0.5 * (matrix - pick(observed.outputs)).pow(2).sum({1, 2})
            : (torch::matmul(matrix, pick(observed.inputs)) - pick(observed.outputs)).pow(2).sum({1, 2}) /
                  (2.0 * double(samples));
    const auto gradients = torch::autograd::grad({loss.sum()}, {down, up}, {}, true, true);
    const auto tangents = torch::autograd::grad({gradients[0], gradients[1]}, {down, up}, along.tensors());
    Gradient found = model.gradient(batch, at, Keep::pass);
    EXPECT_LT(relative_error(found.loss, loss), 1e-14);
    EXPECT_LT(relative_error(found.rows.pairs[0].down, gradients[0]), 1e-13);
    EXPECT_LT(relative_error(found.rows.pairs[0].up, gradients[1]), 1e-13);
    const AdapterSet tangent = model.tangent(*found.pass, along);
    EXPECT_LT(relative_error(tangent.pairs[0].down, tangents[0]), 1e-13);
    EXPECT_LT(relative_error(tangent.pairs[0].up, tangents[1]), 1e-13);

    Output output = model.output(batch, at, Keep::pass);
    const OutputLoss worth = model.output_loss(batch, output.values);
    EXPECT_LT(relative_error(worth.loss, loss), 1e-14);
    EXPECT_LT(relative_error(model.pullback(*output.pass, worth.cotangent).pairs[0].up, gradients[1]), 1e-13);
    const Tensor error = 0.5 * (matrix - pick(targets)).pow(2).sum({1, 2});
    EXPECT_LT(relative_error(model.loss(batch, at).loss, error), 1e-14);
  }
}

TEST(MatrixObservations, HaveTheNoiseThatIsAskedFor) {
  const Tensor targets = torch::zeros({2, 60, 50}, torch::kFloat64);
  const MatrixObservations noisy = observe_matrices(3, targets, 0.2, 0);
  EXPECT_NEAR(noisy.outputs.std().item<double>(), 0.2, 0.01);
  EXPECT_FALSE(noisy.inputs.defined());
  EXPECT_TRUE(torch::equal(observe_matrices(3, targets, 0, 0).outputs, targets));
  const MatrixObservations sampled = observe_matrices(3, targets, 0, 400);
  EXPECT_NEAR(sampled.inputs.std().item<double>(), 1, 0.02);
  EXPECT_FALSE(torch::equal(sampled.inputs[0], sampled.inputs[1]));
}

}  // namespace
}  // namespace pf2lora
