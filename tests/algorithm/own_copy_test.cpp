// Clients that have not begun a pair of their own: they have the common one, and begin from it.
#include "algorithm/own_copy.h"

#include <gtest/gtest.h>

#include "algorithm/methods.h"

namespace pf2lora {
namespace {

using torch::Tensor;

const std::vector<std::string> kMethods = {"ditto", "feddpa-f", "feddpa-t", "fedfmsl"};

// Of clients that never trained, while the common row is far from where it started.
ClientGroup unseen_group(const Algorithm& algorithm, const Problem& problem,
                         const std::vector<int64_t>& clients) {
  ClientGroup group = start_group(algorithm, problem, clients);
  RandomTensors random(6);
  group.common.copy_(random.normal({1, group.common.size(1)}, 0.3).expand_as(group.common));
  return group;
}

std::unique_ptr<Algorithm> make(const std::string& name, const std::string& head, const Problem& problem) {
  Options options = sgd_options();
  options.head = head;
  return make_method(name, options, problem);
}

TEST(UnseenClients, DeployWhatIsCommon) {
  const SmallProblem problem(two_sites());
  for (const std::string& name : kMethods) {
    SCOPED_TRACE(name);
    const auto algorithm = make(name, "common", problem);
    const ClientGroup group = unseen_group(*algorithm, problem, {1, 4});
    const Batch batch = problem.training_batch({1, 4}, Purpose::batch, 5, 0, 0);
    const Tensor losses = client_losses(problem, batch, *algorithm->common_model(group.common));
    const Tensor found = algorithm->personal_predictor(group)(batch).loss;
    for (size_t g = 0; g < 2; ++g)
      EXPECT_NEAR(found.slice(0, batch.client_offsets[g], batch.client_offsets[g + 1]).mean().item<double>(),
                  losses[int64_t(g)].item<double>(), 1e-12);
    const LevelRows common = algorithm->common_level(group), own = algorithm->client_level(group);
    for (const Site& site : problem.model().sites())
      EXPECT_TRUE(torch::equal(dense_product(*own.level, own.rows, site),
                               dense_product(*common.level, common.rows, site)));
  }
}

// As clients do that have begun, with a pair that is the common one.
TEST(UnseenClients, TrainAndAdaptFromWhatIsCommon) {
  const SmallProblem problem(two_sites());
  for (const std::string& name : kMethods)
    for (const std::string head : {"common", "personal"}) {
      SCOPED_TRACE(name + ", head " + head);
      const auto algorithm = make(name, head, problem);
      const Level& level = *algorithm->client_level(start_group(*algorithm, problem, {0})).level;
      const auto begun_group = [&] {
        ClientGroup group = unseen_group(*algorithm, problem, {1, 4});
        const LevelRows common = algorithm->common_level(group);
        for (const Slice& slice : level.layout().slices())
          if (has_slice(common.level->layout(), slice.name))
            part(algorithm->client_layout(), group.own, slice.name)
                .copy_(part(common.level->layout(), common.rows, slice.name));
        part(algorithm->client_layout(), group.own, "started").fill_(1);
        return group;
      };
      // Round 4 is the last one, in which every one of the methods trains what is the client's own.
      for (const bool trains : {true, false}) {
        ClientGroup unseen = unseen_group(*algorithm, problem, {1, 4}), begun = begun_group();
        const auto go = [&](ClientGroup& group) {
          return trains ? algorithm->local_steps(group, {.round = 4, .steps = 3})
                        : algorithm->adapt(group, {.purpose = Purpose::adaptation, .round = 4, .steps = 3});
        };
        EXPECT_EQ(go(unseen).loss, go(begun).loss);
        EXPECT_TRUE(torch::equal(unseen.own, begun.own));
        EXPECT_TRUE(torch::equal(unseen.common, begun.common));
        EXPECT_GT(largest_difference(unseen.own, begun_group().own), 1e-3);
      }
    }
}

TEST(OwnCopies, OnceBegunStayWhenTheCommonPartMovesOn) {
  const SmallProblem problem(two_sites());
  for (const std::string& name : kMethods) {
    SCOPED_TRACE(name);
    const auto algorithm = make(name, "common", problem);
    ClientGroup group = unseen_group(*algorithm, problem, {2});
    algorithm->local_steps(group, {.round = 4, .steps = 1});
    const Tensor own = algorithm->client_level(group).rows.clone();
    group.common.mul_(2);
    EXPECT_TRUE(torch::equal(algorithm->client_level(group).rows, own));
    const Tensor before = own.clone();
    algorithm->local_steps(group, {.round = 4, .steps = 0});
    EXPECT_TRUE(torch::equal(algorithm->client_level(group).rows, before));
  }
}

// Only the one of two clients that has not begun follows the common level, and of its row what both levels
// have.
TEST(OwnCopies, AreMarkedClientByClient) {
  Options options = sgd_options();
  ParameterLayout common_layout, client_layout;
  const Site site{.name = "site", .rows = 1, .columns = 1};
  const TrainedLevel common(Level({site}, 1, 1, {"A", "B"}, std::nullopt), Owner::common, Rule::sgd, options,
                            common_layout, client_layout);
  const TrainedLevel own(Level({site}, 1, 1, {"A", "B"}, HeadShape{.classes = 1, .inputs = 1}), Owner::client,
                         Rule::sgd, options, common_layout, client_layout);
  const OwnCopy copy(common, own, client_layout);
  ASSERT_EQ(client_layout.size(), 5);  // A, B, weight, bias, the mark
  const auto rows = [](std::vector<double> values, int64_t columns) {
    return torch::tensor(values, torch::kFloat64).view({2, columns});
  };
  ClientGroup group{{0, 1}, rows({10, 20, 10, 20}, 2), rows({1, 2, 3, 4, 1, 5, 6, 7, 8, 0}, 5)};
  const Tensor expected = rows({1, 2, 3, 4, 10, 20, 7, 8}, 4);
  EXPECT_TRUE(torch::equal(copy.rows(group), expected));
  EXPECT_TRUE(torch::equal(copy.begun(group), torch::tensor({true, false})));
  EXPECT_EQ(group.own[1][0].item<double>(), 5);
  copy.begin(group);
  EXPECT_TRUE(torch::equal(group.own, rows({1, 2, 3, 4, 1, 10, 20, 7, 8, 1}, 5)));
  group.common.zero_();
  EXPECT_TRUE(torch::equal(copy.rows(group), expected));
}

}  // namespace
}  // namespace pf2lora
