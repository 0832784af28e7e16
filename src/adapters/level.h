// A level of adapters: the pairs that one owner learns (all clients together, or each client for itself), and
// how several levels become the one pair a site that the model sees: down = [A; C], up = [s B, s' D].
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
  // Adapters of rank `rank` (0: no pairs) at those sites, their product scaled by `scale`, and a head where
  // one is given. `names` are the letters of the pair: {"A", "B"} or {"C", "D"}.
  Level(std::vector<Site> sites, int64_t rank, double scale, std::array<std::string, 2> names,
        std::optional<HeadShape> head);

  const std::vector<Site>& sites() const { return sites_; }
  int64_t rank() const { return rank_; }
  double scale() const { return scale_; }
  bool has_head() const { return head_.has_value(); }
  const std::array<std::string, 2>& names() const { return names_; }
  // Slices <site>/<name>, then head/weight and head/bias.
  const ParameterLayout& layout() const { return layout_; }
  int64_t size() const { return layout_.size(); }

  // Unscaled views of one site in rows [G, size()]: down [G, r, in] and up [G, out, r].
  torch::Tensor down(const torch::Tensor& rows, size_t site) const;
  torch::Tensor up(const torch::Tensor& rows, size_t site) const;

  // Writes the start values into a row [size()]: down Kaiming-uniform as in PEFT (bound 1/sqrt(in)), up 0,
  // head weight normal with deviation 0.02, head bias 0 (transformers' initializer_range).
  void initialise(torch::Tensor row, KeyedRandom& random) const;

 private:
  friend AdapterSet compose(std::span<const Level* const>, std::span<const torch::Tensor>);
  friend std::vector<torch::Tensor> split(std::span<const Level* const>, const AdapterSet&);

  std::vector<Site> sites_;
  int64_t rank_;
  double scale_;
  std::array<std::string, 2> names_;
  std::optional<HeadShape> head_;
  ParameterLayout layout_;
};

// The adapters that rows[i] [G, levels[i]->size()] stand for together. Linear in each pair's half, so it also
// carries directions.
AdapterSet compose(std::span<const Level* const> levels, std::span<const torch::Tensor> rows);

// The adjoint of the concatenation: gradients of an AdapterSet made by compose, as rows [G, size()] a level.
std::vector<torch::Tensor> split(std::span<const Level* const> levels, const AdapterSet& gradient);

}  // namespace pf2lora
