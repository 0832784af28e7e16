// The reference implementation of a BERT-family encoder with a classification head: LibTorch operations and
// autograd, on packed batches, in float32 or double. Dropout is off: the frozen model is a fixed function.
#pragma once
#include <memory>
#include <vector>

#include "model/encoder_weights.h"
#include "model/layer_sites.h"
#include "model/model.h"
#include "model/packed_index.h"
#include "model/pooling.h"
#include "model/prefix_cache.h"

namespace pf2lora {

class ReferenceEncoder final : public Model {
 public:
  // `sites` in the order of encoder_sites. The frozen states under the lowest site are kept within
  // `prefix_cache_bytes`, and within as many the features; adapters that carry a prompt, or a prefix under
  // the lowest site, have no frozen states.
  ReferenceEncoder(EncoderWeights weights, std::vector<Site> sites, Pooling pooling, int64_t classes,
                   int64_t prefix_cache_bytes);

  const std::vector<Site>& sites() const override { return sites_; }
  std::optional<HeadShape> head() const override { return HeadShape{classes_, weights_.config.hidden}; }
  torch::TensorOptions options() const override { return weights_.words.options(); }
  std::optional<PromptRoom> prompt_room() const override {
    return PromptRoom{weights_.config.layers, weights_.config.hidden};
  }
  int64_t frozen_parameters() const override { return weights_.parameters(); }
  std::string backend() const override { return "reference"; }
  int64_t cached_bytes_per_token() const override;

  Losses loss(const Batch& batch, const AdapterSet& adapters) const override;
  Gradient gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  AdapterSet tangent(GradientPass& pass, const AdapterSet& direction) const override;
  Output output(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  OutputLoss output_loss(const Batch& batch, const torch::Tensor& output) const override;
  AdapterSet pullback(OutputPass& pass, const torch::Tensor& cotangent) const override;
  torch::Tensor features(const Batch& batch) const override;

 private:
  // What the lowest adapted layer starts from: its input and the frozen part of its projections.
  struct Entry {
    torch::Tensor hidden;             // [T, hidden]
    torch::Tensor query, key, value;  // [T, hidden]; undefined where they are computed in place
  };

  PackedIndex index_of(const Batch& batch, const AdapterSet& adapters) const;
  torch::Tensor embed(const PackedIndex& index, const torch::Tensor& prompt = {}) const;
  Entry entry(const Batch& batch) const;
  torch::Tensor example_prefix(const Batch& alone) const;
  torch::Tensor block(int64_t layer, const Entry& in, const PackedIndex& index,
                      const AdapterSet* adapters) const;
  torch::Tensor activate(const torch::Tensor& x) const;
  torch::Tensor pool(const torch::Tensor& top, const PackedIndex& index) const;
  torch::Tensor pooled(const Batch& batch, const PackedIndex& index, const AdapterSet& adapters) const;
  torch::Tensor logits(const Batch& batch, const PackedIndex& index, const AdapterSet& adapters) const;
  bool begins_at_the_tokens(const AdapterSet& adapters) const;
  bool reads_first_token_only(int64_t layer) const;

  EncoderWeights weights_;
  std::vector<Site> sites_;
  std::vector<LayerSites> layer_sites_;
  Pooling pooling_;
  int64_t classes_;
  int64_t lowest_layer_;  // with an adapter
  mutable PrefixCache cache_, features_;
};

}  // namespace pf2lora
