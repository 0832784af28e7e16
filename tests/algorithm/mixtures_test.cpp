// FedDPA and FedFMSL: two adapters that are mixed, inside the model by example, or at its outputs by a gate.
#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/nn/functional/loss.h>

#include "algorithm/methods.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// Rows of both levels as if trained, and the marks by which a client knows that it has begun.
ClientGroup trained_group(const Algorithm& algorithm, const Problem& problem,
                          const std::vector<int64_t>& clients) {
  ClientGroup group = start_group(algorithm, problem, clients);
  RandomTensors random(8);
  const auto shake = [&](const ParameterLayout& layout, Tensor rows) {
    for (const Slice& slice : layout.slices())
      if (slice.size > 1) {
        const Tensor values = rows.narrow(1, slice.offset, slice.size);
        values.copy_(random.normal({values.size(0), values.size(1)}, 0.3));
      }
  };
  // One common row, copied to every client.
  Tensor common = group.common.narrow(0, 0, 1).clone();
  shake(algorithm.common_layout(), common);
  group.common.copy_(common.expand_as(group.common));
  shake(algorithm.client_layout(), group.own);
  part(algorithm.client_layout(), group.own, "started").fill_(1);
  return group;
}

// The loss of example n of client 2 when every site's frozen matrix is moved by (1 - a) of the one product
// and a of the other.
double mixed_loss(const Problem& problem, const Batch& batch, int64_t n, double a, const LevelRows& global,
                  const LevelRows& local, const AdapterSet& heads) {
  AdapterSet moved;
  for (const Site& site : problem.model().sites())
    moved.dense.push_back((1 - a) * dense_product(*global.level, global.rows, site)[0] +
                          a * dense_product(*local.level, local.rows, site)[0]);
  moved.head_weight = heads.head_weight;
  moved.head_bias = heads.head_bias;
  return problem.model().loss(batch, moved).loss[n].item<double>();
}

TEST(FedDpa, MixesThePairsOfEveryExampleByItsSimilarityToTheClientsOwn) {
  const SmallProblem problem(two_sites());
  for (const auto& [weighting, weight] : {std::pair<std::string, double>{"constant", 0},
                                          {"constant", 1},
                                          {"constant", 0.3},
                                          {"similarity", 0.8}}) {
    const auto algorithm =
        make_method("feddpa-t", sgd_options(), problem,
                    {{"instance-weighting", weighting}, {"local-weight", std::to_string(weight)}});
    const ClientGroup group = trained_group(*algorithm, problem, {2});
    const Batch batch = problem.training_batch({2}, Purpose::batch, 5, 1, 0);
    const Tensor losses = algorithm->personal_predictor(group)(batch).loss;
    const auto unit = [&](const Batch& of) {
      const Tensor features = problem.model().features(of);
      return features / features.norm(2, {1}, true);
    };
    const Tensor cosines =
        unit(batch).matmul(unit(problem.training_batch({2}, Purpose::instance_samples, 0, 0, 0)).t());
    for (int64_t n = 0; n < losses.size(0); ++n) {
      const double a =
          weighting == "constant" ? weight : std::clamp(weight * cosines[n].mean().item<double>(), 0.0, 1.0);
      EXPECT_NEAR(losses[n].item<double>(),
                  mixed_loss(problem, batch, n, a, algorithm->common_level(group),
                             algorithm->client_level(group), algorithm->personal_model(group)),
                  1e-11)
          << weighting << ' ' << weight;
    }
  }
}

TEST(FedDpa, TrainsTheGlobalPairFirstAndStartsTheLocalOneFromIt) {
  const SmallProblem problem(two_sites());
  Options options = sgd_options();
  options.rounds = 4;
  const auto algorithm = make_method("feddpa-f", options, problem, {{"local-rounds", "1"}});
  const auto homlora = make_method("homlora", options, problem);
  ClientGroup group = start_group(*algorithm, problem, {1, 3}),
              plain = start_group(*homlora, problem, {1, 3});
  const Tensor own = group.own.clone();
  algorithm->local_steps(group, {.round = 3, .steps = 2});
  homlora->local_steps(plain, {.round = 3, .steps = 2});
  EXPECT_LT(largest_difference(algorithm->common_level(group).rows, homlora->common_level(plain).rows),
            1e-12);
  EXPECT_TRUE(torch::equal(group.own, own));
  EXPECT_GT(algorithm->sum_size(3), 0);

  // The last round: a local pair from the global one, on the frozen model alone, with the head as it is.
  const PlainLevel level(options, problem);
  const Tensor common = group.common.clone();
  const Tensor start = algorithm->common_level(group).rows.clone();
  const Batch batch = problem.training_batch({1, 3}, Purpose::batch, 4, 0, 0);
  const int64_t pairs = level.level().size() - level.level().head_block().size;
  const Tensor expected = (start - options.learning_rate * level.gradient(batch, start)).narrow(1, 0, pairs);
  algorithm->local_steps(group, {.round = 4, .steps = 1});
  EXPECT_LT(largest_difference(algorithm->client_level(group).rows, expected), 1e-12);
  EXPECT_TRUE(torch::equal(group.common, common));
  EXPECT_EQ(algorithm->sum_size(4), 0);
}

TEST(FedDpa, TrainsAPersonalHeadWithBothPairs) {
  const SmallProblem problem(two_sites());
  Options options = sgd_options();
  options.head = "personal";
  const auto algorithm = make_method("feddpa-f", options, problem, {{"local-rounds", "1"}});
  ClientGroup group = start_group(*algorithm, problem, {1, 3});
  const auto head = [&] { return part(algorithm->client_layout(), group.own, "head/weight").clone(); };
  const Tensor start = head();
  algorithm->local_steps(group, {.round = 1, .steps = 1});
  const Tensor global = head();
  EXPECT_GT(largest_difference(global, start), 1e-4);
  algorithm->local_steps(group, {.round = 4, .steps = 1});
  EXPECT_GT(largest_difference(head(), global), 1e-4);
}

// ---- FedFMSL ----------------------------------------------------------------------------------------------

struct Experts {
  AdapterSet global, local;
  Tensor down, up;  // of the gate, one client's
};

Experts experts(const Algorithm& algorithm, const Options& options, const Problem& problem,
                const ClientGroup& group) {
  const PlainLevel level(options, problem);
  return {level.adapters(algorithm.common_level(group).rows),
          level.adapters(algorithm.client_level(group).rows),
          part(algorithm.common_layout(), group.common, "gate/A")[0].clone(),
          part(algorithm.common_layout(), group.common, "gate/B")[0].clone()};
}

// The mean loss of one client's batch, by definition; autograd follows the gate.
Tensor mixture_loss(const Problem& problem, const Batch& batch, const Experts& e) {
  const Model& model = problem.model();
  const Tensor weights = torch::softmax(model.features(batch).matmul(e.down.t()).matmul(e.up.t()), 1);
  const Tensor logits = weights.select(1, 0).unsqueeze(1) * model.output(batch, e.global).values +
                        weights.select(1, 1).unsqueeze(1) * model.output(batch, e.local).values;
  const Tensor labels = torch::tensor(std::vector<int64_t>(batch.labels.begin(), batch.labels.end()));
  return torch::nn::functional::cross_entropy(logits, labels);
}

TEST(FedFmsl, FirstStageIsHomLora) {
  const SmallProblem problem(two_sites());
  const Options options = small_options();
  const auto algorithm = make_method("fedfmsl", options, problem, {{"stage-one-rounds", "2"}});
  const auto homlora = make_method("homlora", options, problem);
  ClientGroup group = start_group(*algorithm, problem, {1, 3}),
              plain = start_group(*homlora, problem, {1, 3});
  const Tensor own = part(algorithm->client_layout(), group.own, "head/weight").clone();
  for (const int64_t round : {1, 2}) {
    algorithm->local_steps(group, {.round = round, .steps = 2});
    homlora->local_steps(plain, {.round = round, .steps = 2});
  }
  EXPECT_TRUE(torch::equal(algorithm->common_level(group).rows, homlora->common_level(plain).rows));
  // Nobody has begun a local expert.
  EXPECT_TRUE(torch::equal(part(algorithm->client_layout(), group.own, "head/weight"), own));
  EXPECT_TRUE(torch::equal(algorithm->client_level(group).rows, algorithm->common_level(group).rows));
  const Batch batch = problem.training_batch({1, 3}, Purpose::batch, 5, 1, 0);
  EXPECT_TRUE(torch::equal(algorithm->personal_predictor(group)(batch).loss,
                           homlora->personal_predictor(plain)(batch).loss));
}

TEST(FedFmsl, SecondStageDescendsTheLossOfTheMixture) {
  const SmallProblem problem(two_sites());
  const Options options = sgd_options();
  const auto algorithm =
      make_method("fedfmsl", options, problem, {{"stage-one-rounds", "1"}, {"active-blocks", "9"}});
  ClientGroup group = trained_group(*algorithm, problem, {4});
  part(algorithm->client_layout(), group.own, "active_blocks").fill_(9);
  const Batch batch = problem.training_batch({4}, Purpose::batch, 2, 0, 0);
  Experts at = experts(*algorithm, options, problem, group);
  at.down.requires_grad_();
  at.up.requires_grad_();
  const Tensor loss = mixture_loss(problem, batch, at);
  const auto gradients = torch::autograd::grad({loss}, {at.down, at.up});
  EXPECT_NEAR(algorithm->personal_predictor(group)(batch).loss.mean().item<double>(), loss.item<double>(),
              1e-12);

  const Tensor global = algorithm->common_level(group).rows.clone();
  const Tensor local = algorithm->client_level(group).rows.clone();
  const LocalReport report = algorithm->local_steps(group, {.round = 2, .steps = 1});
  EXPECT_NEAR(report.loss[0], loss.item<double>(), 1e-12);
  EXPECT_TRUE(torch::equal(algorithm->common_level(group).rows, global));
  const Experts after = experts(*algorithm, options, problem, group);
  EXPECT_LT(largest_difference((at.down - after.down).detach() / options.learning_rate, gradients[0]), 1e-11);
  EXPECT_LT(largest_difference((at.up - after.up).detach() / options.learning_rate, gradients[1]), 1e-11);

  // The local expert's step against a central difference of the loss along a direction.
  const Tensor step = (local - algorithm->client_level(group).rows) / options.learning_rate;
  const Tensor along = RandomTensors(3).normal({1, local.size(1)});
  const PlainLevel level(options, problem);
  const auto loss_at = [&](double t) {
    Experts moved = at;
    moved.local = level.adapters(local + t * along);
    return mixture_loss(problem, batch, moved).item<double>();
  };
  constexpr double kStep = 1e-5;
  const double slope = (loss_at(kStep) - loss_at(-kStep)) / (2 * kStep);
  EXPECT_NEAR((step * along).sum().item<double>(), slope, 1e-7 * std::max(1.0, std::abs(slope)));
}

TEST(FedFmsl, UnlocksBlocksFromTheTopAsTheLossStopsFalling) {
  const SmallProblem problem({.targets = {"value"}, .layers = {0, 1}});
  Options options = small_options();
  options.weight_decay = 0.1;
  // Every round must halve the loss, which it does not.
  const auto algorithm =
      make_method("fedfmsl", options, problem, {{"stage-one-rounds", "1"}, {"activation-trend", "0.5"}});
  ClientGroup group = start_group(*algorithm, problem, {1, 4});
  algorithm->local_steps(group, {.round = 1, .steps = 2});
  const auto active = [&] { return part(algorithm->client_layout(), group.own, "active_blocks"); };
  EXPECT_EQ(active().sum().item<double>(), 2);
  const std::string bottom = problem.model().sites()[0].name, top = problem.model().sites()[1].name;
  const auto rows = [&](const std::string& site) {
    return part(algorithm->client_layout(), group.own, site + "/B").clone();
  };
  const Tensor resting = part(algorithm->common_layout(), group.common, bottom + "/B").clone();
  const Tensor moving = part(algorithm->common_layout(), group.common, top + "/B").clone();
  algorithm->local_steps(group, {.round = 2, .steps = 2});
  EXPECT_TRUE(torch::equal(rows(bottom), resting));
  EXPECT_GT(largest_difference(rows(top), moving), 1e-4);
  EXPECT_EQ(active().sum().item<double>(), 2);
  algorithm->local_steps(group, {.round = 3, .steps = 2});
  EXPECT_EQ(active().sum().item<double>(), 4);
  algorithm->local_steps(group, {.round = 4, .steps = 2});
  EXPECT_GT(largest_difference(rows(bottom), resting), 1e-4);
  EXPECT_EQ(active().sum().item<double>(), 4);  // there are no more
}

}  // namespace
}  // namespace pf2lora
