// Scores of next tokens without a cache: every text is read anew at every step.
#pragma once
#include <torch/types.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "data/batch.h"
#include "model/token_search.h"

namespace pf2lora {

class RecomputedScores final : public NextScores {
 public:
  // Scores [S, vocabulary] of what follows each text; `prompts` [S] int64 are the texts' beginnings.
  using Compute = std::function<torch::Tensor(const Batch& texts, const torch::Tensor& prompts)>;

  RecomputedScores(Batch prompts, Compute compute)
      : texts_(std::move(prompts)), compute_(std::move(compute)) {
    for (size_t i = 0; i < texts_.examples.size(); ++i) prompts_.push_back(int64_t(i));
    offsets_ = texts_.client_offsets;
  }

  torch::Tensor begin() override { return scores(); }
  torch::Tensor extend(const std::vector<int64_t>& parents, const std::vector<int32_t>& tokens) override {
    const Batch before = texts_;
    const std::vector<int64_t> prompts_before = prompts_;
    texts_.examples = prompts_ = {};
    texts_.tokens.clear();
    texts_.client_offsets = texts_.token_offsets = {0};
    for (size_t i = 0; i < parents.size(); ++i) {
      const size_t parent = size_t(parents[i]);
      texts_.tokens.insert(texts_.tokens.end(), before.tokens.begin() + before.token_offsets[parent],
                           before.tokens.begin() + before.token_offsets[parent + 1]);
      texts_.tokens.push_back(tokens[i]);
      texts_.token_offsets.push_back(int64_t(texts_.tokens.size()));
      texts_.examples.push_back(before.examples[parent]);
      prompts_.push_back(prompts_before[parent]);
    }
    for (size_t g = 1; g < offsets_.size(); ++g)
      texts_.client_offsets.push_back(std::lower_bound(prompts_.begin(), prompts_.end(), offsets_[g]) -
                                      prompts_.begin());
    return scores();
  }

 private:
  torch::Tensor scores() const { return compute_(texts_, torch::tensor(prompts_, torch::kInt64)); }

  Batch texts_;
  Compute compute_;
  std::vector<int64_t> prompts_;  // [S] of the texts
  std::vector<int64_t> offsets_;  // [G + 1] into all prompts
};

}  // namespace pf2lora
