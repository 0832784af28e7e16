#include "model/packed_attention.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include <cmath>

#include "adapters/random_tensors.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// Examples of 2, 3 and 1 tokens with 2 heads: the first bucket holds 3 and 2, the second 1.
TEST(PackedAttention, PutsExamplesOfLikeLengthInOneBucket) {
  const std::vector<int64_t> offsets = {0, 2, 5, 6};
  const AttentionIndex index = index_attention(offsets, 2, torch::kFloat64);
  ASSERT_EQ(index.buckets.size(), 2u);
  EXPECT_EQ(index.buckets[0].sequences, 4);
  EXPECT_EQ(index.buckets[0].longest, 3);
  EXPECT_EQ(index.buckets[1].sequences, 2);
  EXPECT_EQ(index.buckets[1].longest, 1);
  // Rows 0..2 and 3..5 are the heads of the example of 3 tokens, 6..8 and 9..11 those of 2, 12 and 13 of 1.
  EXPECT_TRUE(torch::equal(index.tokens, integers({6, 9, 7, 10, 0, 3, 1, 4, 2, 5, 12, 13})));
  EXPECT_TRUE(torch::equal(index.firsts, integers({2, 3, 0, 1, 4, 5})));
  EXPECT_TRUE(torch::equal(index.order, integers({1, 0, 2})));
  const double inf = INFINITY;
  EXPECT_TRUE(
      torch::equal(index.buckets[0].mask.squeeze(1),
                   torch::tensor({{0.0, 0.0, 0.0}, {0.0, 0.0, 0.0}, {0.0, 0.0, -inf}, {0.0, 0.0, -inf}},
                                 torch::kFloat64)));
  EXPECT_TRUE(torch::equal(index.buckets[1].mask, torch::zeros({2, 1, 1}, torch::kFloat64)));
}

struct PackedCase {
  std::vector<int64_t> offsets;
  int64_t heads, hidden;
  std::vector<Tensor> inputs;  // query, key, value; with a prefix its keys and values

  PackedCase(uint64_t seed, int64_t prefix) : offsets{0}, heads(3), hidden(12) {
    torch::manual_seed(seed);
    for (int64_t length : {5, 1, 17, 9, 2, 8, 17, 3}) offsets.push_back(offsets.back() + length);
    for (int i = 0; i < 3; ++i)
      inputs.push_back(torch::randn({offsets.back(), hidden}, torch::kFloat64).requires_grad_());
    for (int i = 0; prefix > 0 && i < 2; ++i)
      inputs.push_back(torch::randn({8, prefix, hidden}, torch::kFloat64).requires_grad_());
  }
  Tensor packed(bool first_only) const {
    const AttentionIndex index = index_attention(offsets, heads, torch::kFloat64);
    const Tensor firsts = integers({offsets.begin(), offsets.end() - 1});
    const Tensor query = first_only ? inputs[0].index_select(0, firsts) : inputs[0];
    const Asking asking = first_only ? Asking::first : Asking::all;
    const AttentionPrefix prefix =
        inputs.size() == 3 ? AttentionPrefix{} : AttentionPrefix{inputs[3], inputs[4]};
    return packed_attention(query, inputs[1], inputs[2], index, asking, prefix);
  }
  // Example by example, from the definition.
  Tensor by_definition(bool first_only) const {
    std::vector<Tensor> results;
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      const auto heads_of = [&](const Tensor& x, int64_t tokens, const Tensor& before = {}) {
        const Tensor own = x.narrow(0, offsets[i], tokens);
        const Tensor all = before.defined() ? torch::cat({before[int64_t(i)], own}) : own;
        return all.view({all.size(0), heads, hidden / heads}).transpose(0, 1);
      };
      const bool prefixed = inputs.size() > 3;
      const int64_t length = offsets[i + 1] - offsets[i];
      const Tensor scores =
          heads_of(inputs[0], first_only ? 1 : length)
              .matmul(heads_of(inputs[1], length, prefixed ? inputs[3] : Tensor()).transpose(1, 2))
              .div(std::sqrt(double(hidden) / double(heads)));
      const Tensor values = heads_of(inputs[2], length, prefixed ? inputs[4] : Tensor());
      results.push_back(scores.softmax(-1).matmul(values).transpose(0, 1).flatten(1));
    }
    return torch::cat(results);
  }
};

// Whether only first tokens ask, and the vectors of the prefix.
using Asking = std::tuple<bool, int64_t>;

std::string name_of(const testing::TestParamInfo<Asking>& info) {
  return std::string(std::get<0>(info.param) ? "FirstTokens" : "AllTokens") + "Behind" +
         std::to_string(std::get<1>(info.param));
}

class PackedAttentionAgainstDefinition : public testing::TestWithParam<Asking> {};
INSTANTIATE_TEST_SUITE_P(Asking, PackedAttentionAgainstDefinition,
                         testing::Combine(testing::Bool(), testing::Values(0, 1, 4)), name_of);

TEST_P(PackedAttentionAgainstDefinition, AgreesInValueAndTwoDerivatives) {
  const auto [first_only, prefix] = GetParam();
  const PackedCase with(3, prefix);
  const Tensor ours = with.packed(first_only), theirs = with.by_definition(first_only);
  EXPECT_TRUE(torch::allclose(ours, theirs, 1e-12, 1e-13));

  const Tensor seed = torch::randn_like(ours);
  std::vector<Tensor> directions;
  for (const Tensor& input : with.inputs) directions.push_back(torch::randn_like(input));
  const auto derivatives = [&](const Tensor& result) {
    auto first = torch::autograd::grad({(result * seed).sum()}, with.inputs, {}, true, true);
    Tensor along = torch::zeros({}, torch::kFloat64);
    for (size_t i = 0; i < first.size(); ++i) along = along + (first[i] * directions[i]).sum();
    for (const Tensor& second : torch::autograd::grad({along}, with.inputs)) first.push_back(second);
    return first;
  };
  const auto of_ours = derivatives(ours), of_theirs = derivatives(theirs);
  for (size_t i = 0; i < of_ours.size(); ++i)
    EXPECT_TRUE(torch::allclose(of_ours[i], of_theirs[i], 1e-11, 1e-12)) << "derivative " << i;
}

}  // namespace
}  // namespace pf2lora
