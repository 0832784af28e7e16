// A decoder that goes on from cached keys and values: a prompt is read once, and then each new token alone.
#pragma once
#include <torch/types.h>

#include <optional>
#include <vector>

#include "adapters/adapter_set.h"
#include "data/batch.h"
#include "model/layer_sites.h"
#include "model/packed_index.h"
#include "model/rotary.h"
#include "model/token_search.h"
#include "model/transformer_weights.h"

namespace pf2lora {

// N prompts of G clients, of which n go on with S sequences, the same number from each. All sequences have
// equally many new tokens, so only the prompts' keys are padded; sequences of one prompt share them.
class CachedDecoder final : public NextScores {
 public:
  // `sites` one a layer. All but the sites are to outlive the decoder.
  CachedDecoder(const TransformerWeights& weights, std::vector<LayerSites> sites, const Batch& prompts,
                const AdapterSet& adapters);

  torch::Tensor begin() override;
  torch::Tensor extend(const std::vector<int64_t>& parents, const std::vector<int32_t>& tokens) override;

 private:
  // Of one layer; P is the number of tokens of the longest prompt, with the vectors before and among them.
  struct Cache {
    torch::Tensor prompt_key, prompt_value;  // [n, key heads, P, width]
    torch::Tensor key, value;                // [S, key heads, slots, width]
  };
  // Whose the rows [T] of a product are.
  struct Rows {
    std::vector<int64_t> of_client;  // [G] numbers of rows, which stand client after client
    torch::Tensor example;           // [T] int64
  };

  torch::Tensor embed(const torch::Tensor& tokens, const torch::Tensor& positions) const;
  torch::Tensor linear(const torch::Tensor& x, const FrozenLinear& linear, int site, const Rows& rows) const;
  // What follows attention: `top` are the layer's inputs, `mixed` what attention read.
  torch::Tensor finish(size_t layer, const torch::Tensor& top, const torch::Tensor& mixed,
                       const Rows& rows) const;
  torch::Tensor scores(const torch::Tensor& top) const;
  // Keys or values [T, key heads * width] of all prompts, padded, behind those of a prefix.
  torch::Tensor padded(const torch::Tensor& x, const torch::Tensor& prefix, const PackedIndex& index) const;
  torch::Tensor prompt_layer(size_t layer, const torch::Tensor& hidden, const PackedIndex& index,
                             const Rows& all, const Rows& one_each);
  torch::Tensor token_layer(size_t layer, const torch::Tensor& hidden, const Rows& rows,
                            const std::optional<Rotary>& rotary);
  torch::Tensor cached_attention(const torch::Tensor& query, const Cache& cache) const;
  void go_on_with(const std::vector<int64_t>& parents);

  const TransformerWeights& weights_;
  const ModelConfig& config_;
  const std::vector<LayerSites> sites_;
  const Batch& prompts_;
  const AdapterSet& adapters_;
  std::vector<TransformerLayer> layers_;  // with the adapters' dense updates
  std::vector<Cache> caches_;             // one a layer
  torch::Tensor padding_;                 // [n, 1, 1, longest], 0 at a prompt's tokens and -inf beyond them
  std::vector<int64_t> examples_;         // [n] of the prompts that go on
  std::vector<int64_t> of_sequence_;      // [S] the example of each sequence
  int64_t longest_ = 0;                   // of the prompts, with the vectors among them
  int64_t new_tokens_ = 0, slots_ = 0;    // of each sequence, and those that there is room for
};

}  // namespace pf2lora
