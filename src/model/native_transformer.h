// The native implementation of a BERT-family encoder with a classification head: the order of its operations,
// hand-written for the CPU with their gradients and tangents. An example's numbers have the same bits in
// whatever batch it stands. It has no room for prompts.
#pragma once
#include <memory>
#include <vector>

#include "model/transformer_weights.h"
#include "model/layer_sites.h"
#include "model/model.h"
#include "model/readout.h"
#include "model/prefix_cache.h"
#include "native/graph.h"
#include "native/linear_op.h"

namespace pf2lora {

// T: float or double.
template <class T>
class NativeTransformer final : public Model {
 public:
  // `weights` are of type T. `sites` in the order of transformer_sites. The frozen states under the lowest site
  // are kept within `prefix_cache_bytes`, and within as many the features. The weights of its layers are
  // multiplied as `storage` says; everything else is in T. They are to be packed before the first question.
  NativeTransformer(const TransformerWeights& weights, std::vector<Site> sites, Readout readout,
                    int64_t prefix_cache_bytes, native::Storage storage = native::Storage::full);
  // Whether there is a native implementation of such a network.
  static bool covers(const ModelConfig& config, const Readout& readout);

  const std::vector<Site>& sites() const override { return sites_; }
  std::optional<HeadShape> head() const override { return HeadShape{head_.out, head_.in}; }
  std::optional<int64_t> feature_width() const override { return config_.hidden; }
  torch::TensorOptions options() const override { return words_.options(); }
  std::optional<PromptRoom> prompt_room() const override { return std::nullopt; }
  int64_t frozen_parameters() const override { return frozen_parameters_; }
  std::string backend() const override;
  int64_t cached_bytes_per_token() const override;
  int64_t packed_bytes() const override { return int64_t(block_.bytes()); }
  void pack_weights(const FilledMemory& memory) override { block_.lay_out(memory); }

  Losses loss(const Batch& batch, const AdapterSet& adapters) const override;
  Gradient gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  AdapterSet tangent(GradientPass& pass, const AdapterSet& direction) const override;
  Output output(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  OutputLoss output_loss(const Batch& batch, const torch::Tensor& output) const override;
  AdapterSet pullback(OutputPass& pass, const torch::Tensor& cotangent) const override;
  torch::Tensor features(const Batch& batch) const override;

 private:
  // What a layer starts from: its input and, where they are ready, the frozen products of its projections.
  struct Start {
    native::ValueId hidden;
    std::optional<native::ValueId> key, value, query;
    std::vector<native::ValueId> all() const;
  };
  struct Run;  // a pass with the adapters that it reads

  using Direction = typename native::LinearOperation<T>::Direction;
  native::FrozenLayer<T> frozen(const FrozenLinear& linear, int64_t blocks, Direction direction, bool value,
                                bool gradient);
  native::ValueId linear(native::Graph<T>& graph, native::ValueId x, const FrozenLinear& layer, int site,
                         native::Per per, std::optional<native::ValueId> ready = {});
  // By head, with a row for each example: x_h W_h^T + b_h, or backwards x_h W_h.
  native::ValueId by_head(native::Graph<T>& graph, native::ValueId x, const FrozenLinear& layer, int site,
                          Direction direction);
  native::ValueId norm(native::Graph<T>& graph, native::ValueId a, native::ValueId b, const FrozenNorm& norm,
                       native::Per per) const;
  native::ValueId attention(native::Graph<T>& graph, const TransformerLayer& layer, const Start& in,
                            const LayerSites& sites, native::Per per, native::ValueId top);
  native::ValueId encoder_layer(native::Graph<T>& graph, const TransformerLayer& layer, const Start& in,
                                const LayerSites& sites, native::Per per);
  void build_below(const TransformerWeights& weights);
  void build_above(const TransformerWeights& weights, const std::vector<LayerSites>& sites);

  native::Numbers<T> embed(const Batch& batch) const;
  std::vector<torch::Tensor> prefixes(const Batch& batch) const;
  void start(const Batch& batch, native::Pass<T>& pass) const;
  std::unique_ptr<Run> run(const Batch& batch, const AdapterSet& adapters, native::Reach reach) const;
  torch::Tensor scores(const Run& run) const;
  AdapterSet gradient_of(Run& run, const T* d_scores) const;
  // Clients one after the other: the same bits in less memory.
  bool is_large(const Batch& batch) const;
  Gradient gradient_by_client(const Batch& batch, const AdapterSet& adapters) const;

  ModelConfig config_;
  std::vector<Site> sites_;
  std::vector<native::MatrixShape> site_shapes_;
  Readout readout_;
  native::MatrixShape head_;
  int64_t lowest_layer_;
  bool all_ask_;  // in the lowest adapted layer every token asks, not only the first
  int64_t frozen_parameters_;
  torch::Tensor words_, positions_;
  std::vector<T> embedding_gain_, embedding_shift_;

  const native::Kernels<T>& kernels_ = native::kernels<T>();
  native::FrozenBlock<T> block_;
  mutable native::Pool<T> pool_;
  // From the embeddings to the states under the lowest site, and from there to pooled states and scores.
  native::Graph<T> below_, above_;
  native::ValueId below_input_ = 0;
  Start below_end_{}, above_start_{};
  native::ValueId pooled_ = 0, scores_ = 0;
  mutable PrefixCache cache_, features_;
};

}  // namespace pf2lora
