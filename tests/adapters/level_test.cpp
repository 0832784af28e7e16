#include "adapters/level.h"

#include <gtest/gtest.h>
#include <torch/nn/init.h>

#include <cmath>

#include "adapters/random_tensors.h"
#include "core/random.h"

namespace pf2lora {
namespace {

using torch::Tensor;

const std::vector<Site> kSites = {{"first.query", "query", 0, 5, 7}, {"first.output", "output", 0, 4, 9}};
const HeadShape kHead{3, 6};

std::vector<std::string> names(const ParameterLayout& layout) {
  std::vector<std::string> names;
  for (const Slice& slice : layout.slices()) names.push_back(slice.name);
  return names;
}

TEST(Level, LaysOutAllDownsThenAllUpsThenTheHead) {
  const Level level(kSites, 2, 8, {"C", "D"}, kHead);
  EXPECT_EQ(names(level.layout()),
            (std::vector<std::string>{"first.query/C", "first.output/C", "first.query/D", "first.output/D",
                                      "head/weight", "head/bias"}));
  EXPECT_EQ(level.layout().find("first.query/C").shape, (std::vector<int64_t>{2, 7}));
  EXPECT_EQ(level.layout().find("first.output/D").shape, (std::vector<int64_t>{4, 2}));
  EXPECT_EQ(level.size(), 2 * (7 + 5) + 2 * (9 + 4) + 3 * 6 + 3);
  const auto expect = [](Block block, int64_t offset, int64_t size) {
    EXPECT_EQ(block.offset, offset);
    EXPECT_EQ(block.size, size);
  };
  expect(level.down_block(), 0, 2 * (7 + 9));
  expect(level.up_block(), 32, 2 * (5 + 4));
  expect(level.head_block(), 50, 3 * 6 + 3);
  expect(Level(kSites, 0, 1, {"A", "B"}, kHead).up_block(), 0, 0);
}

TEST(Level, OfRankZeroHoldsTheHeadAlone) {
  EXPECT_EQ(names(Level(kSites, 0, 1, {"A", "B"}, kHead).layout()),
            (std::vector<std::string>{"head/weight", "head/bias"}));
  EXPECT_EQ(Level(kSites, 0, 1, {"A", "B"}, std::nullopt).size(), 0);
}

TEST(Level, LaysOutPromptsBetweenPairsAndHead) {
  const Level prompt(kSites, 2, 1, {"A", "B"}, kHead, PromptShape{4, 6, 0});
  EXPECT_EQ(names(prompt.layout())[4], "prompt");
  EXPECT_EQ(names(prompt.layout())[5], "head/weight");
  EXPECT_EQ(prompt.prompt_block().offset, 50);
  EXPECT_EQ(prompt.prompt_block().size, 4 * 6);
  EXPECT_EQ(prompt.head_block().offset, 74);

  const Level prefix({}, 0, 1, {"A", "B"}, std::nullopt, PromptShape{3, 5, 2});
  EXPECT_EQ(names(prefix.layout()),
            (std::vector<std::string>{"prefix/0/key", "prefix/0/value", "prefix/1/key", "prefix/1/value"}));
  const Tensor rows = torch::arange(2 * prefix.size()).view({2, -1});
  const KeyValuePrefix second = prefix.prefix(rows, 1);
  EXPECT_TRUE(torch::equal(second.key, rows.narrow(1, 30, 15).view({2, 3, 5})));
  EXPECT_TRUE(torch::equal(second.value, rows.narrow(1, 45, 15).view({2, 3, 5})));

  const Level none({}, 0, 1, {"A", "B"}, std::nullopt, PromptShape{0, 5, 2});
  EXPECT_EQ(none.size(), 0);
  EXPECT_FALSE(none.prompts().has_value());
}

TEST(Level, StartsPromptsWithADeviationOfTwoHundredths) {
  for (const int64_t layers : {0, 4}) {
    const Level level({}, 0, 1, {"A", "B"}, kHead, PromptShape{40, 500, layers});
    Tensor row = torch::full({level.size()}, 7.0, torch::kFloat64);
    KeyedRandom random(1, Purpose::common_initial);
    level.initialise(row, random);
    const auto [offset, size] = level.prompt_block();
    for (const Tensor& vectors : row.narrow(0, offset, size).split(40 * 500)) {
      EXPECT_NEAR(vectors.std().item<double>(), 0.02, 0.02 * 0.02);  // 20,000 draws: 0.5% a deviation
      EXPECT_LT(std::abs(vectors.mean().item<double>()), 4 * 0.02 / std::sqrt(20000.0));
    }
    EXPECT_NEAR(row.narrow(0, level.head_block().offset, 18).std().item<double>(), 0.02, 0.015);
  }
}

// PEFT starts A by kaiming_uniform_(a = sqrt(5)), whose bound is sqrt(6 / ((1 + 5) in)), and B by zeros.
TEST(Level, StartsAsPeftDoes) {
  const int64_t in = 300, rank = 50;
  const Level level({{"site", "query", 0, 20, in}}, rank, 2, {"A", "B"}, HeadShape{40, 500});
  Tensor row = torch::full({level.size()}, 7.0, torch::kFloat64);
  KeyedRandom random(1, Purpose::common_initial);
  level.initialise(row, random);
  const Tensor rows = row.unsqueeze(0);
  const Tensor down = level.down(rows, 0);

  const double bound = 1 / std::sqrt(double(in));
  EXPECT_LE(down.abs().max().item<double>(), bound);
  EXPECT_GT(down.abs().max().item<double>(), 0.999 * bound);
  const Tensor theirs = torch::nn::init::kaiming_uniform_(torch::empty({rank, in}), std::sqrt(5.0));
  EXPECT_LE(theirs.abs().max().item<double>(), bound * (1 + 1e-6));
  EXPECT_GT(theirs.abs().max().item<double>(), 0.999 * bound);
  // 15,000 draws: the mean's deviation is bound / sqrt(3 * 15000), that of the variance 0.9 / sqrt(15000).
  EXPECT_LT(std::abs(down.mean().item<double>()), 4 * bound / std::sqrt(45000.0));
  EXPECT_NEAR(down.var().item<double>() / (bound * bound / 3), 1, 0.03);

  EXPECT_EQ(level.up(rows, 0).abs().max().item<double>(), 0);
  const Tensor weight = view(rows, level.layout().find("head/weight"));
  EXPECT_NEAR(weight.std().item<double>(), 0.02, 0.02 * 0.02);  // 20,000 draws: 0.5% a deviation
  EXPECT_LT(std::abs(weight.mean().item<double>()), 4 * 0.02 / std::sqrt(20000.0));
  EXPECT_EQ(view(rows, level.layout().find("head/bias")).abs().max().item<double>(), 0);
}

TEST(Level, StartsFromTheSameNumbersInFloat) {
  const Level level(kSites, 2, 8, {"A", "B"}, kHead);
  Tensor wide = torch::empty({level.size()}, torch::kFloat64), narrow = torch::empty({level.size()});
  KeyedRandom one(3, Purpose::client_initial, 4), two(3, Purpose::client_initial, 4),
      other(3, Purpose::client_initial, 5);
  level.initialise(wide, one);
  level.initialise(narrow, two);
  EXPECT_TRUE(torch::equal(narrow, wide.to(torch::kFloat32)));
  level.initialise(narrow, other);
  EXPECT_FALSE(torch::equal(narrow, wide.to(torch::kFloat32)));
}

TEST(Compose, MakesTheScaledSumOfBothLevels) {
  RandomTensors random(1);
  const Level common(kSites, 3, 2.0, {"A", "B"}, kHead), client(kSites, 2, 8.0, {"C", "D"}, std::nullopt);
  const std::array levels = {&common, &client};
  const std::array rows = {random.normal({4, common.size()}), random.normal({4, client.size()})};
  const AdapterSet set = compose(levels, rows);
  ASSERT_EQ(set.pairs.size(), 2u);
  for (size_t site = 0; site < 2; ++site)
    for (int64_t g = 0; g < 4; ++g) {
      // The slices cut out by hand: A [3, in] of both sites, then B [out, 3] of both, and so on.
      const int64_t out = kSites[site].rows, in = kSites[site].columns;
      const auto cut = [&](const Tensor& row, int64_t rank, bool up) {
        const int64_t begin = rank * (up ? 7 + 9 + (site == 0 ? 0 : 5) : site == 0 ? 0 : 7);
        return up ? row.narrow(0, begin, out * rank).view({out, rank})
                  : row.narrow(0, begin, rank * in).view({rank, in});
      };
      const Tensor dense = 2.0 * cut(rows[0][g], 3, true).mm(cut(rows[0][g], 3, false)) +
                           8.0 * cut(rows[1][g], 2, true).mm(cut(rows[1][g], 2, false));
      EXPECT_LT(relative_error(set.pairs[site].up[g].mm(set.pairs[site].down[g]), dense), 1e-14);
    }
  EXPECT_TRUE(torch::equal(set.head_weight.flatten(1), rows[0].narrow(1, common.size() - 21, 18)));
  EXPECT_TRUE(torch::equal(set.head_bias, rows[0].narrow(1, common.size() - 3, 3)));
}

TEST(Compose, LeavesSitesUndefinedWhereNoLevelHasARank) {
  const Level common(kSites, 0, 1, {"A", "B"}, kHead), client(kSites, 0, 1, {"C", "D"}, std::nullopt);
  const std::array levels = {&common, &client};
  const std::array rows = {torch::ones({2, common.size()}), torch::ones({2, 0})};
  const AdapterSet set = compose(levels, rows);
  EXPECT_EQ(set.pairs.size(), 2u);
  EXPECT_FALSE(set.pairs[0].defined());
  EXPECT_EQ(set.tensors().size(), 2u);
  const auto back = split(levels, set);
  EXPECT_TRUE(torch::equal(back[0], rows[0]));
  EXPECT_EQ(back[1].sizes(), (std::vector<int64_t>{2, 0}));
}

TEST(Compose, PutsTheLevelsPromptsOneAfterTheOther) {
  RandomTensors random(2);
  const Level common({}, 0, 1, {"A", "B"}, kHead, PromptShape{3, 5, 0});
  const Level client({}, 0, 1, {"C", "D"}, std::nullopt, PromptShape{2, 5, 0});
  const Level prefix({}, 0, 1, {"C", "D"}, std::nullopt, PromptShape{2, 5, 2});
  const Level lower({}, 0, 1, {"C", "D"}, std::nullopt, PromptShape{1, 5, 1});
  const std::array levels = {&common, &client, &prefix, &lower};
  std::vector<Tensor> rows;
  for (const Level* level : levels) rows.push_back(random.normal({2, level->size()}));
  const AdapterSet set = compose(levels, rows);
  EXPECT_TRUE(set.pairs.empty());
  EXPECT_TRUE(torch::equal(set.prompt.narrow(1, 0, 3).flatten(1), rows[0].narrow(1, 0, 15)));
  EXPECT_TRUE(torch::equal(set.prompt.narrow(1, 3, 2).flatten(1), rows[1]));
  ASSERT_EQ(set.prefix.size(), 2u);
  EXPECT_TRUE(torch::equal(set.prefix[0].key.narrow(1, 0, 2).flatten(1), rows[2].narrow(1, 0, 10)));
  EXPECT_TRUE(torch::equal(set.prefix[0].value.narrow(1, 2, 1).flatten(1), rows[3].narrow(1, 5, 5)));
  EXPECT_TRUE(torch::equal(set.prefix[1].value.flatten(1), rows[2].narrow(1, 30, 10)));
}

TEST(AdapterSet, KeepsItsConstantsWithOtherTensors) {
  RandomTensors random(3);
  AdapterSet set;
  set.pairs = {{random.normal({2, 1, 3}), random.normal({2, 4, 1})}, {}};
  set.prompt = random.normal({2, 1, 3});
  set.prefix = {{}, {random.normal({2, 1, 3}), random.normal({2, 1, 3})}};
  set.dense = {Tensor(), random.normal({4, 3})};
  set.rank_weights = random.normal({5, 1});
  std::vector<Tensor> others;
  for (const Tensor& tensor : set.tensors()) others.push_back(tensor + 1);
  ASSERT_EQ(others.size(), 5u);
  const AdapterSet changed = set.with_tensors(others);
  EXPECT_TRUE(torch::equal(changed.pairs[0].up, set.pairs[0].up + 1));
  EXPECT_TRUE(torch::equal(changed.prompt, set.prompt + 1));
  EXPECT_TRUE(torch::equal(changed.prefix[1].value, set.prefix[1].value + 1));
  EXPECT_FALSE(changed.prefix[0].defined());
  EXPECT_TRUE(torch::equal(changed.dense[1], set.dense[1]));
  EXPECT_TRUE(torch::equal(changed.rank_weights, set.rank_weights));
}

// <compose(x), Z> = sum over levels of <x_i, split(Z)_i>, for any rows x and any gradient Z.
TEST(Split, IsTheAdjointOfCompose) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    RandomTensors random(seed);
    std::vector<Site> sites;
    for (int64_t i = 0; i <= random.below(3); ++i)
      sites.push_back({"site" + std::to_string(i), "query", i, 1 + random.below(9), 1 + random.below(9)});
    const bool head_is_common = seed % 2 == 0;
    const std::optional<HeadShape> head = HeadShape{2, 3}, none;
    const auto prompts = [&]() -> std::optional<PromptShape> {
      if (random.below(3) == 0) return std::nullopt;
      return PromptShape{random.below(3), 4, random.below(3)};
    };
    const Level common(sites, random.below(4), 2.5, {"A", "B"}, head_is_common ? head : none, prompts());
    const Level client(sites, random.below(4), 0.3, {"C", "D"}, head_is_common ? none : head, prompts());
    const int64_t clients = 1 + random.below(4);
    const std::array levels = {&common, &client};
    const std::array rows = {random.normal({clients, common.size()}),
                             random.normal({clients, client.size()})};

    const AdapterSet composed = compose(levels, rows);
    std::vector<Tensor> gradient;
    double left = 0, right = 0, size = 0;
    for (const Tensor& tensor : composed.tensors()) {
      gradient.push_back(random.normal(tensor.sizes().vec()));
      left += inner_product(tensor, gradient.back());
      size += tensor.norm().item<double>() * gradient.back().norm().item<double>();
    }
    const auto back = split(levels, composed.with_tensors(gradient));
    for (size_t i = 0; i < 2; ++i) {
      ASSERT_EQ(back[i].sizes(), rows[i].sizes()) << "seed " << seed;
      right += inner_product(rows[i], back[i]);
    }
    EXPECT_NEAR(left, right, 1e-14 * size) << "seed " << seed;
  }
}

}  // namespace
}  // namespace pf2lora
