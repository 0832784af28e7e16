#include "native/attention_op.h"

#include <gtest/gtest.h>

#include "native/network.h"

namespace pf2lora::native {
namespace {

class AttentionOperations : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, AttentionOperations, testing::ValuesIn(supported_processors()), processor_name);

// Query, key and value with heads side by side, by torch, example by example of ragged_batch().
Tensor reference(const AttentionHeads& heads, const std::vector<Tensor>& in) {
  const auto offsets = ragged_batch().token_offsets;
  std::vector<Tensor> examples;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t tokens = offsets[i + 1] - offsets[i];
    const auto by_head = [&](const Tensor& x) {  // [heads, tokens, width]
      const Tensor own = x.slice(0, offsets[i], offsets[i + 1]).reshape({tokens, -1, heads.width});
      return own.transpose(0, 1).repeat_interleave(heads.count * heads.width / x.size(1), 0);
    };
    Tensor scores = torch::bmm(by_head(in[0]), by_head(in[1]).transpose(1, 2)) * heads.scale;
    if (heads.causal)
      scores = scores.masked_fill(torch::ones({tokens, tokens}, torch::kBool).triu(1), -INFINITY);
    const Tensor out = torch::bmm(scores.softmax(2), by_head(in[2]));
    examples.push_back(out.transpose(0, 1).reshape({tokens, heads.count * heads.width}));
  }
  return torch::cat(examples);
}

TEST_P(AttentionOperations, AgreeWithAutogradWithSharedKeysToo) {
  for (const int64_t group : {1, 2, 4})
    for (const bool causal : {false, true}) {
      const AttentionHeads heads{.count = 4, .width = 12, .causal = causal, .scale = 0.3, .group = group};
      const Function function(
          [=]<class T>(Graph<T>& graph, const std::vector<ValueId>& in) {
            return graph.add(std::make_unique<AttentionOperation<T>>(heads), in, Per::token, 48);
          },
          [=](const std::vector<Tensor>& in) { return reference(heads, in); });
      const ValueShape query{Per::token, 48}, key{Per::token, 48 / group};
      const ValueShape constant{Per::token, 48 / group, /*active=*/false};
      check(GetParam(), function, {query, key, key}, query);
      check(GetParam(), function, {query, key, constant}, query);
      check(GetParam(), function, {query, constant, key}, query);
    }
}

}  // namespace
}  // namespace pf2lora::native
