// The reference implementation of a transformer: LibTorch operations and autograd, on packed batches, in
// float32 or double. Dropout is off: the frozen model is a fixed function.
#pragma once
#include <memory>
#include <vector>

#include "model/layer_sites.h"
#include "model/model.h"
#include "model/packed_index.h"
#include "model/readout.h"
#include "model/prefix_cache.h"
#include "model/transformer_weights.h"

namespace pf2lora {

class ReferenceTransformer final : public Model {
 public:
  // `sites` in the order of transformer_sites. The frozen states under the lowest site are kept within
  // `prefix_cache_bytes`, and within as many the features; adapters that carry a prompt, or a prefix under
  // the lowest site, have no frozen states.
  ReferenceTransformer(TransformerWeights weights, std::vector<Site> sites, Readout readout,
                       int64_t prefix_cache_bytes);

  const std::vector<Site>& sites() const override { return sites_; }
  std::optional<HeadShape> head() const override;
  std::optional<int64_t> feature_width() const override { return weights_.config.hidden; }
  torch::TensorOptions options() const override { return weights_.words.options(); }
  std::optional<PromptRoom> prompt_room() const override;
  int64_t frozen_parameters() const override { return weights_.parameters(); }
  std::string backend() const override { return "reference " + precision_name(options()); }
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
    torch::Tensor query, key, value;  // [T, width]; undefined where they are computed in place
  };
  struct Products;  // of one layer, with the adapters of its sites

  PackedIndex index_of(const Batch& batch, const AdapterSet& adapters) const;
  torch::Tensor norm(const torch::Tensor& x, const FrozenNorm& norm) const;
  torch::Tensor embed(const PackedIndex& index, const torch::Tensor& prompt = {}) const;
  Entry entry(const Batch& batch) const;
  torch::Tensor example_prefix(const Batch& alone) const;
  torch::Tensor block(int64_t layer, const Entry& in, const PackedIndex& index,
                      const AdapterSet* adapters) const;
  torch::Tensor attention(int64_t layer, const Products& product, const Entry& in, const torch::Tensor& read,
                          const torch::Tensor& top, const PackedIndex& index, const AdapterSet* adapters,
                          Asking asking) const;
  // Which tokens of a layer ask where it has adapters above it.
  Asking asking(int64_t layer) const;
  torch::Tensor states(const Batch& batch, const PackedIndex& index, const AdapterSet& adapters) const;
  torch::Tensor pool(const torch::Tensor& top, const PackedIndex& index) const;
  torch::Tensor scores(const Batch& batch, const PackedIndex& index, const AdapterSet& adapters) const;
  bool begins_at_the_tokens(const AdapterSet& adapters) const;

  TransformerWeights weights_;
  std::vector<Site> sites_;
  std::vector<LayerSites> layer_sites_;
  Readout readout_;
  int64_t lowest_layer_;  // with an adapter
  mutable PrefixCache cache_, features_;
};

}  // namespace pf2lora
