// A level of adapters: the pairs and prompts that one owner learns (all clients together, or each client for
// itself), and how several levels become the one pair a site that the model sees, down = [A; C] and
// up = [s B, s' D], and one prompt, the levels' vectors one after the other.
#pragma once
#include <torch/types.h>

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "adapters/adapter_set.h"
#include "adapters/parameter_layout.h"
#include "adapters/site.h"

namespace pf2lora {

class KeyedRandom;

class Level {
 public:
  // Adapters of rank `rank` (0: no pairs) at those sites, their product scaled by `scale`, and a head and
  // prompts where they are given. `names` are the letters of the pair: {"A", "B"} or {"C", "D"}.
  Level(std::vector<Site> sites, int64_t rank, double scale, std::array<std::string, 2> names,
        std::optional<HeadShape> head, std::optional<PromptShape> prompts = std::nullopt);

  const std::vector<Site>& sites() const { return sites_; }
  int64_t rank() const { return rank_; }
  double scale() const { return scale_; }
  bool has_head() const { return head_.has_value(); }
  bool has_dense_head() const { return head_ && head_->dense > 0; }
  const std::optional<PromptShape>& prompts() const { return prompts_; }
  const std::array<std::string, 2>& names() const { return names_; }
  // Slices <site>/<down's name> of every site, then <site>/<up's name> of every site, then prompt, or
  // prefix/<layer>/key and prefix/<layer>/value layer by layer, then head/dense/weight
  // and head/dense/bias where the head has a dense layer, head/weight and head/bias.
  const ParameterLayout& layout() const { return layout_; }
  int64_t size() const { return layout_.size(); }
  // The parts of a row, each contiguous; of size 0 where the level has none.
  Block down_block() const { return down_block_; }
  Block up_block() const { return up_block_; }
  Block prompt_block() const { return prompt_block_; }
  Block head_block() const { return head_block_; }

  // Unscaled views of one site in rows [G, size()]: down [G, r, in] and up [G, out, r].
  torch::Tensor down(const torch::Tensor& rows, size_t site) const;
  torch::Tensor up(const torch::Tensor& rows, size_t site) const;
  // Views [G, vectors, width] of the prompt before the tokens, and of a layer's prefix.
  torch::Tensor prompt(const torch::Tensor& rows) const;
  KeyValuePrefix prefix(const torch::Tensor& rows, int64_t layer) const;

  // Writes the start values into a row [size()]: down Kaiming-uniform as in PEFT (bound 1/sqrt(in)), up 0;
  // head weights normal with deviation 0.02, head biases 0 (transformers' initializer_range); prompts and
  // prefixes normal with deviation 0.02 (CoOp, Zhou et al. 2022, arXiv 2109.01134, and with it PromptFL, Guo
  // et al. 2022, arXiv 2208.11625).
  void initialise(torch::Tensor row, KeyedRandom& random) const;

 private:
  std::vector<Site> sites_;
  int64_t rank_;
  double scale_;
  std::array<std::string, 2> names_;
  std::optional<HeadShape> head_;
  std::optional<PromptShape> prompts_;
  ParameterLayout layout_;
  size_t first_prompt_ = 0;  // slice
  Block down_block_, up_block_, prompt_block_, head_block_;
};

// The adapters that rows[i] [G, levels[i]->size()] stand for together. Linear in each pair's half and in the
// rest, so it also carries directions. Where several levels have a head, the last one's is taken.
AdapterSet compose(std::span<const Level* const> levels, std::span<const torch::Tensor> rows);

// The adjoint of the concatenation: gradients of an AdapterSet made by compose, as rows [G, size()] a level.
std::vector<torch::Tensor> split(std::span<const Level* const> levels, const AdapterSet& gradient);

}  // namespace pf2lora
