// HETLoRA: truncation, the penalty on the tail, pruning, the weights of the average.
#include <gtest/gtest.h>

#include <cmath>

#include "algorithm/methods.h"
#include "model/matrix_problem.h"

namespace pf2lora {
namespace {

using torch::Tensor;
using Ranks = std::vector<int64_t>;

Options het_options(int64_t rank = 4) {
  Options options = small_options();
  options.rank = rank;
  options.clients = 5;
  return options;
}

// Of one client's row [P]: without what stands beyond the rank, by slices.
Tensor truncated(const Level& level, const Tensor& row, int64_t rank) {
  const Tensor result = row.clone().unsqueeze(0);
  for (const Site& site : level.sites()) {
    part(level.layout(), result, site.name + "/A").slice(1, rank).zero_();
    part(level.layout(), result, site.name + "/B").slice(2, rank).zero_();
  }
  return result[0];
}

// sum over sites of ||B[:, first .. rank]||_F ||A[first .. rank, :]||_F of one client's row.
double tail_product(const Level& level, const Tensor& row, int64_t first, int64_t rank) {
  const auto norm = [](const Tensor& entries) {
    return std::sqrt(entries.square().sum().item<double>() + 1e-12);
  };
  double sum = 0;
  for (const Site& site : level.sites()) {
    const Tensor a = part(level.layout(), row.unsqueeze(0), site.name + "/A")[0];
    const Tensor b = part(level.layout(), row.unsqueeze(0), site.name + "/B")[0];
    sum += norm(a.slice(0, first, rank)) * norm(b.slice(1, first, rank));
  }
  return sum;
}

// With SGD, what lambda changes in one step is its gradient times rate and lambda. Rank 3 of 4, so that the
// tail ends before the adapter does.
TEST(HetLoraPenalty, AgreesWithDifferencesOfTheProductOfTailNorms) {
  const SmallProblem problem(two_sites());
  Options options = het_options();
  options.optimizer = "sgd";
  constexpr double kPenalty = 10, h = 1e-6;
  for (const auto& [pruning, first] : {std::pair{"0.99", 2}, {"0.5", 1}}) {
    const auto make = [&](const std::string& penalty) {
      return make_method(
          "hetlora", options, problem,
          {{"min-rank", "3"}, {"client-ranks", "3"}, {"pruning", pruning}, {"tail-penalty", penalty}});
    };
    const auto without = make("0"), with = make("10");
    ClientGroup a = random_group(*without, problem, {1, 4}), b = random_group(*with, problem, {1, 4});
    const Level& level = *with->common_level(b).level;
    const Tensor start = with->common_level(b).rows.clone();
    without->local_steps(a, {.steps = 1});
    with->local_steps(b, {.steps = 1});
    const Tensor found =
        (without->common_level(a).rows - with->common_level(b).rows) / (kPenalty * options.learning_rate);
    for (int64_t g = 0; g < 2; ++g) {
      Tensor expected = torch::empty_like(start[g]);
      for (int64_t i = 0; i < start.size(1); ++i) {
        const Tensor ahead = start[g].clone(), behind = start[g].clone();
        ahead[i] += h;
        behind[i] -= h;
        expected[i] =
            (tail_product(level, ahead, first, 3) - tail_product(level, behind, first, 3)) / (2 * h);
      }
      EXPECT_LT(relative_error(found[g], expected), 1e-7) << pruning << ", client " << g;
    }
  }
}

// At the start B is 0 and so is the tail's product, where a norm without smoothing has no derivative.
TEST(HetLoraPenalty, IsFiniteWhereTheTailIsZero) {
  const SmallProblem problem(two_sites());
  const auto algorithm = make_method("hetlora", het_options(), problem, {{"tail-penalty", "1"}});
  ClientGroup group = start_group(*algorithm, problem, {0, 4});
  algorithm->local_steps(group, {.steps = 3});
  EXPECT_TRUE(group.common.isfinite().all().item<bool>());
  EXPECT_TRUE(group.own.isfinite().all().item<bool>());
}

TEST(HetLora, UsesTheFirstRowsOfAAndColumnsOfB) {
  const SmallProblem problem(two_sites());
  const auto algorithm =
      make_method("hetlora", het_options(5), problem, {{"min-rank", "1"}, {"client-ranks", "1,4,2"}});
  const ClientGroup group = random_group(*algorithm, problem, {0, 1, 2});
  // The levels share the rows: what the group holds now are the random values of the common level.
  const LevelRows common = algorithm->common_level(group);
  const AdapterSet personal = algorithm->personal_model(group);
  const Ranks ranks = {1, 4, 2};
  for (size_t i = 0; i < personal.pairs.size(); ++i)
    for (int64_t g = 0; g < 3; ++g) {
      const Tensor row = truncated(*common.level, common.rows[g], ranks[size_t(g)]).unsqueeze(0);
      // lora-alpha is 4: one scale 4 / 5 for clients of every rank.
      const Tensor product =
          0.8 * part(common.level->layout(), row, common.level->sites()[i].name + "/B")
                    .matmul(part(common.level->layout(), row, common.level->sites()[i].name + "/A"))[0];
      EXPECT_LT(largest_difference(personal.pairs[i].up[g].matmul(personal.pairs[i].down[g]), product),
                1e-14);
      const LevelRows deployed = algorithm->client_level(group);
      EXPECT_LT(largest_difference(
                    dense_product(*deployed.level, deployed.rows, deployed.level->sites()[i])[g], product),
                1e-14);
    }
  EXPECT_TRUE(algorithm->is_personal());
  EXPECT_EQ(algorithm->combination(), Combination::replaces);
  const AdapterSet whole = *algorithm->common_model(group.common);
  EXPECT_LT(largest_difference(whole.pairs[1].up.matmul(whole.pairs[1].down),
                               dense_product(*common.level, common.rows, common.level->sites()[1])),
            1e-14);
}

// Two clients whose first step shortens the tail of the one and lengthens that of the other, beside twins
// that may not prune.
TEST(HetLora, PrunesRankRowsAndMomentsWhereTheTailProductFell) {
  const SmallProblem problem(two_sites());
  const Options options = het_options();
  struct Case {
    std::string pruning;
    int64_t first;   // of the tail: floor(gamma 4)
    int64_t pruned;  // max(1, floor(gamma 4))
  };
  for (const Case& c : {Case{"0.99", 3, 3}, {"0.5", 2, 2}, {"0.3", 1, 1}, {"0.2", 0, 1}}) {
    const auto make = [&](const std::string& lowest) {
      return make_method(
          "hetlora", options, problem,
          {{"min-rank", lowest}, {"client-ranks", "4"}, {"pruning", c.pruning}, {"tail-penalty", "1000"}});
    };
    const auto algorithm = make("1"), twin = make("4");
    ClientGroup group = random_group(*algorithm, problem, {1, 3}),
                other = random_group(*twin, problem, {1, 3});
    const Level& level = *algorithm->common_level(group).level;
    for (const ClientGroup* rows : {&group, &other})
      for (const Site& site : level.sites())
        part(level.layout(), algorithm->common_level(*rows).rows, site.name + "/B")[1]
            .slice(1, c.first)
            .zero_();
    const Tensor before = twin->common_level(other).rows.clone();
    algorithm->local_steps(group, {.steps = 1});
    twin->local_steps(other, {.steps = 1});

    const Tensor after = twin->common_level(other).rows;
    ASSERT_LT(tail_product(level, after[0], c.first, 4), tail_product(level, before[0], c.first, 4));
    ASSERT_GT(tail_product(level, after[1], c.first, 4), tail_product(level, before[1], c.first, 4));
    EXPECT_EQ(algorithm->cost(group, 0, 1).rank, c.pruned) << c.pruning;
    EXPECT_EQ(algorithm->cost(group, 1, 1).rank, 4) << c.pruning;
    EXPECT_EQ(twin->cost(other, 0, 1).rank, 4);
    EXPECT_TRUE(torch::equal(algorithm->common_level(group).rows[0], truncated(level, after[0], c.pruned)));
    EXPECT_TRUE(torch::equal(algorithm->common_level(group).rows[1], after[1]));
    for (const std::string name : {"optimizer/AB/moment1", "optimizer/AB/moment2"}) {
      const Tensor moment = part(algorithm->client_layout(), group.own, name),
                   whole = part(twin->client_layout(), other.own, name);
      EXPECT_TRUE(torch::equal(moment[0], truncated(level, whole[0], c.pruned))) << name;
      EXPECT_TRUE(torch::equal(moment[1], whole[1])) << name;
      EXPECT_FALSE(torch::equal(moment[0], whole[0])) << name;
    }
  }
}

// floor(gamma r) bounded by the lowest rank: with 0.5 that is 4, 3.5, 2.5, 1.5, 1, with 0.99 it is 7.92,
// 6.93, 4.95, 2.97, 1.98.
TEST(HetLora, RoundsThePrunedRankDownToAtLeastTheLowest) {
  const SmallProblem problem(two_sites());
  for (const auto& [pruning, expected] : {std::pair{"0.5", Ranks{4, 3, 2, 2, 2}},
                                          {"0.99", Ranks{7, 6, 4, 2, 2}},
                                          {"1", Ranks{8, 7, 5, 3, 2}}}) {
    const auto algorithm = make_method(
        "hetlora", het_options(8), problem,
        {{"min-rank", "2"}, {"client-ranks", "8,7,5,3,2"}, {"pruning", pruning}, {"tail-penalty", "1000"}});
    ClientGroup group = random_group(*algorithm, problem, {0, 1, 2, 3, 4});
    algorithm->local_steps(group, {.steps = 1});
    for (size_t g = 0; g < 5; ++g) EXPECT_EQ(algorithm->cost(group, g, 1).rank, expected[g]) << pruning;
    algorithm->adapt(group, {.purpose = Purpose::adaptation, .steps = 1});
    for (size_t g = 0; g < 5; ++g) EXPECT_EQ(algorithm->cost(group, g, 1).rank, expected[g]) << pruning;
  }
}

// ||B_1 A_1||_F = ||diag(3, 0)||_F = 3 and ||B_2 A_2||_F = ||(0 1; 0 0)||_F = 1, so the weights are 3/4 and
// 1/4; the second client has rank 1 and sends zeros for the rest.
TEST(HetLora, WeighsClientsByTheNormsOfTheirUpdatesAsWorkedByHand) {
  Options options = small_options();
  options.rank = options.clients = options.matrix_rows = options.matrix_columns = 2;
  options.matrix_common_values = "1";
  options.matrix_client_values = "0.5";
  const MatrixProblem problem(options);
  const auto matrix = [](std::vector<double> values) {
    return torch::tensor(values, torch::kFloat64).view({2, 2});
  };
  for (const auto& [weights, a, b] :
       {std::tuple{"site", matrix({0.75, 0.25, 0, 1.5}), matrix({2.5, 0, 0, 0})},
        {"all", matrix({0.75, 0.25, 0, 1.5}), matrix({2.5, 0, 0, 0})},
        {"uniform", matrix({0.5, 0.5, 0, 1}), matrix({2, 0, 0, 0})}}) {
    const auto algorithm =
        make_method("hetlora", options, problem,
                    {{"min-rank", "1"}, {"client-ranks", "2,1"}, {"update-weights", weights}});
    ClientGroup group = start_group(*algorithm, problem, {0, 1});
    const std::string site = problem.model().sites()[0].name;
    part(algorithm->common_layout(), group.common, site + "/A")
        .copy_(torch::stack({matrix({1, 0, 0, 2}), matrix({0, 1, 0, 0})}));
    part(algorithm->common_layout(), group.common, site + "/B")
        .copy_(torch::stack({matrix({3, 0, 0, 0}), matrix({1, 0, 0, 0})}));
    const Tensor common = aggregated(*algorithm, {group}, group.common[0], 1).unsqueeze(0);
    EXPECT_LT(largest_difference(part(algorithm->common_layout(), common, site + "/A")[0], a), 1e-15);
    EXPECT_LT(largest_difference(part(algorithm->common_layout(), common, site + "/B")[0], b), 1e-15);
  }
}

// B_1 A_1 and B_2 A_2 are 0 while neither A nor B of the first client is, so all weigh the same: the means of
// A and of B, to which the second client, of rank 1, sends zeros for the rest. A third one whose update is
// not 0 outweighs them.
TEST(HetLora, WeighsClientsAlikeWhereNoneHasAnUpdateAsWorkedByHand) {
  Options options = small_options();
  options.rank = options.matrix_rows = options.matrix_columns = 2;
  options.clients = 3;
  options.matrix_common_values = "1";
  options.matrix_client_values = "0.5";
  const MatrixProblem problem(options);
  const std::string site = problem.model().sites()[0].name;
  const auto matrix = [](std::vector<double> values) {
    return torch::tensor(values, torch::kFloat64).view({2, 2});
  };
  for (const std::string weights : {"site", "all"}) {
    const auto algorithm =
        make_method("hetlora", options, problem,
                    {{"min-rank", "1"}, {"client-ranks", "2,1,2"}, {"update-weights", weights}});
    ClientGroup group = start_group(*algorithm, problem, {0, 1, 2});
    const Tensor before = group.common[0].clone();
    part(algorithm->common_layout(), group.common, site + "/A")
        .copy_(torch::stack({matrix({1, 2, 0, 0}), matrix({4, -6, 0, 0}), matrix({7, 0, 0, 0})}));
    part(algorithm->common_layout(), group.common, site + "/B")
        .copy_(torch::stack({matrix({0, 3, 0, 5}), matrix({0, 0, 0, 0}), matrix({8, 0, 0, 9})}));
    const auto mean = [&](int64_t clients) {
      std::vector<ClientGroup> groups;
      for (int64_t k = 0; k < clients; ++k)
        groups.push_back({{k}, group.common.narrow(0, k, 1), group.own.narrow(0, k, 1)});
      const Tensor common = aggregated(*algorithm, groups, before, 1).unsqueeze(0);
      return std::pair{part(algorithm->common_layout(), common, site + "/A")[0].clone(),
                       part(algorithm->common_layout(), common, site + "/B")[0].clone()};
    };
    EXPECT_LT(largest_difference(mean(2).first, matrix({2.5, -2, 0, 0})), 1e-15) << weights;
    EXPECT_LT(largest_difference(mean(2).second, matrix({0, 1.5, 0, 2.5})), 1e-15) << weights;
    EXPECT_LT(largest_difference(mean(3).first, matrix({7, 0, 0, 0})), 1e-15) << weights;
    EXPECT_LT(largest_difference(mean(3).second, matrix({8, 0, 0, 9})), 1e-15) << weights;
  }
}

TEST(HetLora, WeighsEachSiteByItsDenseUpdateAndTheHeadUniformly) {
  const SmallProblem problem(two_sites());
  for (const std::string weights : {"site", "all", "uniform"}) {
    const auto algorithm =
        make_method("hetlora", het_options(), problem, {{"update-weights", weights}, {"min-rank", "1"}});
    std::vector<ClientGroup> groups = {random_group(*algorithm, problem, {0, 3}, 4),
                                       random_group(*algorithm, problem, {1}, 5)};
    const Level& level = *algorithm->common_level(groups[0]).level;
    groups[0].common.mul_(torch::tensor({{1.0}, {2.0}}, torch::kFloat64));
    const Tensor rows = common_rows(*algorithm, groups);
    Tensor norms = torch::empty({3, 2}, torch::kFloat64);
    for (int64_t site = 0; site < 2; ++site)
      norms.select(1, site).copy_(dense_product(level, rows, level.sites()[size_t(site)]).norm(2, {1, 2}));
    if (weights == "all") norms = norms.norm(2, {1}, true).expand({3, 2});
    if (weights == "uniform") norms = torch::ones({3, 2}, torch::kFloat64);
    const Tensor common = aggregated(*algorithm, groups, groups[0].common[0], 1).unsqueeze(0);
    const auto check = [&](const std::string& name, const Tensor& weight) {
      const Tensor each = part(level.layout(), rows, name).flatten(1);
      const Tensor mean = (weight.unsqueeze(1) * each).sum(0) / weight.sum();
      EXPECT_LT(largest_difference(part(algorithm->common_layout(), common, name).flatten(), mean), 1e-14)
          << weights << ", " << name;
    };
    for (int64_t site = 0; site < 2; ++site)
      for (const std::string half : {"/A", "/B"})
        check(level.sites()[size_t(site)].name + half, norms.select(1, site));
    for (const std::string name : {"head/weight", "head/bias"})
      check(name, torch::ones({3}, torch::kFloat64));
  }
}

// Before anything is learned every B is 0 and every A is the same.
TEST(HetLora, KeepsAnAdapterThatNoClientUses) {
  const SmallProblem problem(two_sites());
  for (const std::string weights : {"site", "all", "uniform"}) {
    const auto algorithm = make_method("hetlora", het_options(), problem, {{"update-weights", weights}});
    const ClientGroup group = start_group(*algorithm, problem, {0, 2, 4});
    const Tensor common = aggregated(*algorithm, {group}, group.common[0], 1);
    EXPECT_LT(largest_difference(common, group.common[0]), 1e-15) << weights;
  }
}

TEST(HetLora, OfEqualRanksWithoutPruningPenaltyAndWeightsIsHomLora) {
  const SmallProblem problem(two_sites());
  for (const std::string state : {"keep", "average", "reset"})
    for (const std::string head : {"common", "personal"}) {
      Options options = het_options();
      options.optimizer_state = state;
      options.head = head;
      options.weight_decay = 0.1;
      const auto het = make_method(
          "hetlora", options, problem,
          {{"client-ranks", "4"}, {"pruning", "1"}, {"tail-penalty", "0"}, {"update-weights", "uniform"}});
      const auto hom = make_method("homlora", options, problem);
      std::vector<ClientGroup> a, b;
      for (const auto& clients : {Ranks{0, 3}, Ranks{1}}) {
        a.push_back(start_group(*het, problem, clients));
        b.push_back(start_group(*hom, problem, clients));
      }
      for (int64_t round = 1; round <= 2; ++round) {
        play_round(*het, a, round, 3);
        play_round(*hom, b, round, 3);
      }
      for (size_t i = 0; i < 2; ++i)
        EXPECT_LT(largest_difference(rows_of(het->personal_model(a[i])), rows_of(hom->personal_model(b[i]))),
                  1e-12)
            << state << ", head " << head;
    }
}

}  // namespace
}  // namespace pf2lora
