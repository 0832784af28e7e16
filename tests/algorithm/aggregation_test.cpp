// FLoRA, FlexLoRA and FedEx-LoRA: averages of products, against dense algebra in double.
#include <gtest/gtest.h>

#include "algorithm/methods.h"

namespace pf2lora {
namespace {

using torch::Tensor;
using Ranks = std::vector<int64_t>;

Options round_options(const std::string& head = "common") {
  Options options = small_options();
  options.learning_rate = 0.05;
  options.weight_decay = 0.1;
  options.clients = 5;
  options.head = head;
  return options;
}

std::vector<ClientGroup> three_groups(const Algorithm& algorithm, const Problem& problem) {
  std::vector<ClientGroup> groups;
  for (const auto& clients : {Ranks{0, 3}, Ranks{1, 4}, Ranks{2}})
    groups.push_back(start_group(algorithm, problem, clients));
  return groups;
}

void train(const Algorithm& algorithm, std::vector<ClientGroup>& groups, int64_t round) {
  for (ClientGroup& group : groups) algorithm.local_steps(group, {.round = round, .steps = 3});
}

void receive(std::vector<ClientGroup>& groups, const Tensor& common) {
  for (ClientGroup& group : groups) group.common.copy_(common.expand_as(group.common));
}

// mean over all clients of s B A, one a site.
std::vector<Tensor> mean_products(const Algorithm& algorithm, const std::vector<ClientGroup>& groups) {
  const Level& level = *algorithm.common_level(groups[0]).level;
  const Tensor rows = common_rows(algorithm, groups);
  std::vector<Tensor> means;
  for (const Site& site : level.sites()) means.push_back(dense_product(level, rows, site).mean(0));
  return means;
}

// What a group deploys beside the frozen matrices: its pairs and its dense update, [G, out, in].
Tensor deployed(const AdapterSet& adapters, size_t site) {
  return adapters.dense.at(site).unsqueeze(0) + adapters.pairs[site].up.matmul(adapters.pairs[site].down);
}

double mean_of_heads_error(const Algorithm& algorithm, const Tensor& before_average, const Tensor& common) {
  double worst = 0;
  for (const std::string name : {"head/weight", "head/bias"})
    worst =
        std::max(worst, largest_difference(part(algorithm.common_layout(), common.unsqueeze(0), name)[0],
                                           part(algorithm.common_layout(), before_average, name).mean(0)));
  return worst;
}

Tensor all_common(const std::vector<ClientGroup>& groups) {
  return torch::cat({groups[0].common, groups[1].common, groups[2].common});
}

TEST(Flora, LeavesTheSumOfTheMeanProductsAndAFreshPair) {
  const SmallProblem problem(two_sites());
  const auto algorithm = make_method("flora", round_options(), problem);
  auto groups = three_groups(*algorithm, problem);
  const auto& sites = problem.model().sites();
  std::vector<Tensor> expected = {torch::zeros({12, 12}, torch::kFloat64),
                                  torch::zeros({20, 12}, torch::kFloat64)};
  std::vector<Tensor> downs = {algorithm->common_level(groups[0]).rows[0].clone()};
  for (int64_t round = 1; round <= 3; ++round) {
    const Tensor before = groups[0].common[0].clone();
    train(*algorithm, groups, round);
    const auto means = mean_products(*algorithm, groups);
    for (size_t site = 0; site < 2; ++site) {
      expected[site] += means[site];
      EXPECT_GT(means[site].norm().item<double>(), 1e-2);
      // Training leaves the dense update alone, weight decay included.
      for (const ClientGroup& group : groups)
        EXPECT_TRUE(torch::equal(
            part(algorithm->common_layout(), group.common, "base_delta/" + sites[site].name)[0],
            part(algorithm->common_layout(), before.unsqueeze(0), "base_delta/" + sites[site].name)[0]));
    }
    const Tensor trained = all_common(groups), common = aggregated(*algorithm, groups, before, round);
    EXPECT_LT(mean_of_heads_error(*algorithm, trained, common), 1e-14);
    receive(groups, common);
    for (size_t site = 0; site < 2; ++site) {
      EXPECT_LT(largest_difference(algorithm->base_delta(groups[1].common)[site], expected[site]), 1e-12);
      EXPECT_LT(largest_difference(deployed(algorithm->personal_model(groups[1]), site)[0], expected[site]),
                1e-12);
      EXPECT_LT(
          largest_difference(deployed(*algorithm->common_model(groups[1].common), site)[0], expected[site]),
          1e-12);
      const Level& level = *algorithm->common_level(groups[0]).level;
      const Tensor rows = algorithm->common_level(groups[0]).rows;
      EXPECT_EQ(part(level.layout(), rows, sites[site].name + "/B").abs().max().item<double>(), 0);
      // Kaiming-uniform as PEFT: within 1 / sqrt(in), with that spread.
      const Tensor down = part(level.layout(), rows, sites[site].name + "/A")[0];
      EXPECT_LE(down.abs().max().item<double>(), 1 / std::sqrt(12.0));
      EXPECT_GT(down.abs().max().item<double>(), 0.8 / std::sqrt(12.0));
      for (const Tensor& other : downs)
        EXPECT_GT(
            largest_difference(part(level.layout(), other.unsqueeze(0), sites[site].name + "/A")[0], down),
            1e-2);
    }
    downs.push_back(algorithm->common_level(groups[0]).rows[0].clone());
  }
}

// The dense update W as a pair of its own: up = I, down = W.
AdapterSet beside(const AdapterSet& adapters, const std::vector<Tensor>& updates) {
  AdapterSet result = adapters;
  result.dense.clear();
  for (size_t site = 0; site < updates.size(); ++site) {
    LowRankPair& pair = result.pairs[site];
    const int64_t clients = pair.down.size(0), outputs = updates[site].size(0);
    pair.up =
        torch::cat({pair.up, torch::eye(outputs, torch::kFloat64).expand({clients, outputs, outputs})}, 2);
    pair.down = torch::cat({pair.down, updates[site].expand({clients, outputs, updates[site].size(1)})}, 1);
  }
  return result;
}

// Behind the level's row stands the dense update, in the common row of every client.
int64_t level_size(const Algorithm& algorithm, const ClientGroup& group) {
  return algorithm.common_level(group).level->size();
}

TEST(DenseUpdates, AreWhatLocalStepsStartFrom) {
  const SmallProblem problem(two_sites());
  Options options = round_options();
  options.optimizer = "sgd";
  options.weight_decay = 0;
  for (const std::string name : {"flora", "fedex-lora"}) {
    const auto algorithm = make_method(name, options, problem);
    ClientGroup group = random_group(*algorithm, problem, {1, 4});
    RandomTensors random(6);
    for (const Tensor& update : algorithm->base_delta(group.common.narrow(0, 0, 1)))
      update.copy_(random.normal({update.size(0), update.size(1)}, 0.3));
    const Block dense = {level_size(*algorithm, group), group.common.size(1) - level_size(*algorithm, group)};
    group.common[1]
        .narrow(0, dense.offset, dense.size)
        .copy_(group.common[0].narrow(0, dense.offset, dense.size));
    const LevelRows level = algorithm->common_level(group);
    const auto updates = algorithm->base_delta(group.common);
    EXPECT_GT(updates[1].abs().max().item<double>(), 0.5) << name;
    const std::array levels = {level.level};
    const AdapterSet whole = beside(compose(levels, std::array{level.rows}), updates);
    const Batch batch = problem.training_batch(group.clients, Purpose::batch, 2, 0, 0);
    const Tensor losses = client_losses(problem, batch, whole);
    const Gradient gradient = problem.model().gradient(batch, whole, Keep::nothing);
    Tensor expected = level.rows.clone();
    for (size_t site = 0; site < updates.size(); ++site) {
      const std::string place = problem.model().sites()[site].name;
      const double rate = options.learning_rate;
      part(level.level->layout(), expected, place + "/A")
          .sub_(rate * gradient.rows.pairs[site].down.slice(1, 0, 3));
      part(level.level->layout(), expected, place + "/B")
          .sub_(rate * level.level->scale() * gradient.rows.pairs[site].up.slice(2, 0, 3));
    }
    part(level.level->layout(), expected, "head/weight")
        .sub_(options.learning_rate * gradient.rows.head_weight);
    part(level.level->layout(), expected, "head/bias").sub_(options.learning_rate * gradient.rows.head_bias);

    const LocalReport report = algorithm->local_steps(group, {.round = 2, .steps = 1});
    for (int64_t g = 0; g < 2; ++g)
      EXPECT_NEAR(report.loss[size_t(g)], losses[g].item<double>(), 1e-13) << name;
    EXPECT_LT(largest_difference(algorithm->common_level(group).rows, expected), 1e-13) << name;
  }
}

// P = sum_k p_k s B_k A_k; the nearest matrix of rank r is U_r U_r^T P with U_r the leading eigenvectors of
// P P^T (Eckart, Young 1936).
struct Leading {
  Tensor values;   // singular values of P, falling
  Tensor vectors;  // U
  explicit Leading(const Tensor& product) {
    const auto [squares, u] = torch::linalg_eigh(product.matmul(product.t()));
    values = squares.clamp_min(0).sqrt().flip(0);
    vectors = u.flip(1);
  }
  Tensor nearest(const Tensor& product, int64_t rank) const {
    const Tensor u = vectors.slice(1, 0, rank);
    return u.matmul(u.t()).matmul(product);
  }
};

TEST(FlexLora, GivesEveryRankTheNearestProductOfThatRank) {
  const SmallProblem problem(two_sites());
  const Ranks ranks = {1, 3, 2, 3, 1};
  const auto algorithm =
      make_method("flexlora", round_options(), problem, {{"min-rank", "1"}, {"client-ranks", "1,3,2,3,1"}});
  auto groups = three_groups(*algorithm, problem);
  const Level& level = *algorithm->common_level(groups[0]).level;
  for (int64_t round = 1; round <= 2; ++round) {
    const Tensor before = groups[0].common[0].clone();
    train(*algorithm, groups, round);
    for (const ClientGroup& group : groups)  // what was sent has a client's rank
      for (size_t g = 0; g < group.clients.size(); ++g) {
        const Tensor row = algorithm->common_level(group).rows[int64_t(g)].unsqueeze(0);
        for (const Site& site : level.sites()) {
          const int64_t rank = ranks[size_t(group.clients[g])];
          EXPECT_EQ(part(level.layout(), row, site.name + "/A").slice(1, rank).abs().sum().item<double>(), 0);
          EXPECT_EQ(part(level.layout(), row, site.name + "/B").slice(2, rank).abs().sum().item<double>(), 0);
          EXPECT_GT(part(level.layout(), row, site.name + "/B").abs().max().item<double>(), 1e-3);
        }
      }
    const auto products = mean_products(*algorithm, groups);
    const Tensor trained = all_common(groups), common = aggregated(*algorithm, groups, before, round);
    EXPECT_LT(mean_of_heads_error(*algorithm, trained, common), 1e-14);
    receive(groups, common);
    for (size_t i = 0; i < 2; ++i) {
      const Site& site = level.sites()[i];
      const Leading leading(products[i]);
      ASSERT_GT(leading.values[3].item<double>(), 1e-3);  // so that something is cut off
      const Tensor row = algorithm->common_level(groups[0]).rows.narrow(0, 0, 1);
      const Tensor a = part(level.layout(), row, site.name + "/A")[0],
                   b = part(level.layout(), row, site.name + "/B")[0];
      for (int64_t rank = 1; rank <= 3; ++rank)
        EXPECT_LT(largest_difference(level.scale() * b.slice(1, 0, rank).matmul(a.slice(0, 0, rank)),
                                     leading.nearest(products[i], rank)),
                  1e-11)
            << site.name << ", rank " << rank;
      // B^T B = S and s^2 A A^T = S; the largest entry of each column of U, and so of B, is positive.
      const Tensor s = leading.values.slice(0, 0, 3).diag();
      EXPECT_LT(largest_difference(b.t().matmul(b), s), 1e-11);
      EXPECT_LT(largest_difference(level.scale() * level.scale() * a.matmul(a.t()), s), 1e-11);
      EXPECT_TRUE(torch::equal(std::get<0>(b.max(0)), b.abs().amax(0)));
      for (const ClientGroup& group : groups) {
        const LowRankPair pair = algorithm->personal_model(group).pairs[i];
        for (size_t g = 0; g < group.clients.size(); ++g)
          EXPECT_LT(largest_difference(pair.up[int64_t(g)].matmul(pair.down[int64_t(g)]),
                                       leading.nearest(products[i], ranks[size_t(group.clients[g])])),
                    1e-11);
      }
      const LowRankPair whole = algorithm->common_model(groups[0].common)->pairs[i];
      EXPECT_LT(largest_difference(whole.up[0].matmul(whole.down[0]), leading.nearest(products[i], 3)),
                1e-11);
    }
  }
  EXPECT_EQ(algorithm->combination(), Combination::replaces);
  EXPECT_EQ(algorithm->cost(groups[1], 1, 1).rank, 1);  // client 4
}

// One client's product of rank 1, written down: 2 u v^T with u = e_3 and v = e_1 - e_2 has the singular value
// 2 sqrt(2). Beyond it nothing is left, and nothing is not a number.
TEST(FlexLora, OfAProductOfLowerRankLeavesTheRestZero) {
  const SmallProblem problem(two_sites());
  const auto algorithm = make_method("flexlora", round_options(), problem);
  ClientGroup group = start_group(*algorithm, problem, {4});
  const LevelRows level = algorithm->common_level(group);
  const double scale = level.level->scale();  // 4 / 3
  for (const Site& site : level.level->sites()) {
    const Tensor a = part(level.level->layout(), level.rows, site.name + "/A").zero_();
    const Tensor b = part(level.level->layout(), level.rows, site.name + "/B").zero_();
    a[0][1][1] = 1;
    a[0][1][2] = -1;
    b[0][3][1] = -2 / scale;  // the sign is put right
    a[0][1] *= -1;
  }
  const Tensor common = aggregated(*algorithm, {group}, group.common[0], 1).unsqueeze(0);
  for (const Site& site : level.level->sites()) {
    const Tensor a = part(algorithm->common_layout(), common, site.name + "/A")[0];
    const Tensor b = part(algorithm->common_layout(), common, site.name + "/B")[0];
    const double root = std::sqrt(2 * std::sqrt(2.0));
    Tensor left = torch::zeros_like(b), right = torch::zeros_like(a);
    left[3][0] = root;
    right[0][1] = root / std::sqrt(2.0) / scale;
    right[0][2] = -root / std::sqrt(2.0) / scale;
    EXPECT_LT(largest_difference(b, left), 1e-7);  // the root of a singular value of 1e-16
    EXPECT_LT(largest_difference(a, right), 1e-7);
    EXPECT_LT(largest_difference(b.matmul(a), left.matmul(right)), 1e-14);
  }
}

TEST(FedEx, KeepsTheMeanProductExactBesideTheAveragedPair) {
  const SmallProblem problem(two_sites());
  for (const std::string head : {"common", "personal"}) {
    const auto algorithm = make_method("fedex-lora", round_options(head), problem);
    auto groups = three_groups(*algorithm, problem);
    const Level& level = *algorithm->common_level(groups[0]).level;
    std::vector<Tensor> dense = {torch::zeros({12, 12}, torch::kFloat64),
                                 torch::zeros({20, 12}, torch::kFloat64)};
    for (int64_t round = 1; round <= 2; ++round) {
      const Tensor before = groups[0].common[0].clone();
      train(*algorithm, groups, round);
      const Tensor rows = common_rows(*algorithm, groups);
      const auto products = mean_products(*algorithm, groups);
      const Tensor common = aggregated(*algorithm, groups, before, round);
      receive(groups, common);
      EXPECT_LT(largest_difference(algorithm->common_level(groups[0]).rows[0], rows.mean(0)), 1e-15);
      for (size_t i = 0; i < 2; ++i) {
        const Tensor expected = dense[i] + products[i];
        EXPECT_LT(largest_difference(deployed(algorithm->personal_model(groups[2]), i)[0], expected), 1e-12);
        const Tensor mean = rows.mean(0, /*keepdim=*/true);
        const Tensor rest = products[i] - dense_product(level, mean, level.sites()[i])[0];
        EXPECT_GT(rest.norm().item<double>(), 1e-3 * products[i].norm().item<double>());
        dense[i] += rest;
        EXPECT_LT(largest_difference(algorithm->base_delta(groups[0].common)[i], dense[i]), 1e-12);
        if (head == "common") {
          EXPECT_LT(largest_difference(deployed(*algorithm->common_model(groups[0].common), i)[0], expected),
                    1e-12);
        }
      }
      EXPECT_EQ(algorithm->common_model(groups[0].common).has_value(), head == "common");
    }
  }
}

// Two clients of rank 1 worked by hand: B_1 A_1 = e_1 e_1^T and B_2 A_2 = e_2 e_2^T. Their mean is
// diag(1/2, 1/2), the product of the means a quarter of (1 1)^T (1 1), the rest (1 -1; -1 1) / 4.
TEST(FedEx, OfTwoClientsWorkedByHand) {
  const SmallProblem problem(two_sites());
  Options options = round_options();
  options.rank = 1;
  const auto algorithm = make_method("fedex-lora", options, problem);
  ClientGroup group = start_group(*algorithm, problem, {0, 1});
  const std::string site = problem.model().sites()[0].name;
  const auto unit = [](int64_t i) { return torch::eye(12, torch::kFloat64)[i]; };
  part(algorithm->common_layout(), group.common, site + "/A")
      .copy_(torch::stack({unit(0), unit(1)}).unsqueeze(1));
  part(algorithm->common_layout(), group.common, site + "/B")
      .copy_(torch::stack({unit(0), unit(1)}).unsqueeze(2));
  const Tensor common = aggregated(*algorithm, {group}, group.common[0], 1).unsqueeze(0);
  Tensor rest = torch::zeros({12, 12}, torch::kFloat64);
  rest[0][0] = rest[1][1] = 1;
  rest[0][1] = rest[1][0] = -1;
  EXPECT_LT(largest_difference(algorithm->base_delta(common)[0], rest), 1e-15);  // s = lora-alpha / 1 = 4
}

TEST(FedEx, OfOneClientLeavesNothingBesideItsPair) {
  const SmallProblem problem(two_sites());
  const auto algorithm = make_method("fedex-lora", round_options(), problem);
  const ClientGroup group = random_group(*algorithm, problem, {3});
  const Tensor common = aggregated(*algorithm, {group}, group.common[0], 1).unsqueeze(0);
  for (const Tensor& update : algorithm->base_delta(common))
    EXPECT_LT(update.abs().max().item<double>(), 1e-14);
}

// Aggregation puts another pair in the place of the one that moments belong to.
TEST(Aggregation, ThatReplacesThePairKeepsNoMoments) {
  const SmallProblem problem(two_sites());
  for (const std::string name : {"flora", "flexlora"})
    for (const std::string state : {"keep", "average"}) {
      Options options = round_options();
      options.optimizer_state = state;
      const auto algorithm = make_method(name, options, problem);
      EXPECT_FALSE(has_slice(algorithm->common_layout(), "optimizer/")) << name;
      EXPECT_FALSE(has_slice(algorithm->client_layout(), "optimizer/")) << name;
    }
}

TEST(Aggregation, OfProductsLeavesAPersonalHeadWithItsClient) {
  const SmallProblem problem(two_sites());
  for (const std::string name : {"flora", "flexlora", "fedex-lora"}) {
    const auto algorithm = make_method(name, round_options("personal"), problem);
    EXPECT_FALSE(has_slice(algorithm->common_layout(), "head/")) << name;
    auto groups = three_groups(*algorithm, problem);
    const Tensor before = groups[0].common[0].clone();
    train(*algorithm, groups, 1);
    const Tensor heads = part(algorithm->client_layout(), groups[0].own, "head/weight").clone();
    const auto products = mean_products(*algorithm, groups);
    receive(groups, aggregated(*algorithm, groups, before, 1));
    EXPECT_TRUE(torch::equal(algorithm->personal_model(groups[0]).head_weight, heads)) << name;
    EXPECT_GT(largest_difference(heads[0], heads[1]), 1e-3) << name;
    if (name == "flora") {
      EXPECT_LT(largest_difference(algorithm->base_delta(groups[0].common)[1], products[1]), 1e-12);
    }
  }
}

}  // namespace
}  // namespace pf2lora
