// The native implementation of a transformer: operations hand-written for the CPU with their gradients and
// tangents. An example's numbers have the same bits in whatever batch it stands. It has no room for prompts.
#pragma once
#include <memory>
#include <vector>

#include "model/layer_sites.h"
#include "model/model.h"
#include "model/native_network.h"
#include "model/prefix_cache.h"
#include "model/readout.h"
#include "model/transformer_weights.h"

namespace pf2lora {

// T: float or double.
template <class T>
class NativeTransformer final : public Model {
 public:
  // `weights` are of type T. `sites` in the order of transformer_sites. The frozen states under the lowest
  // site are kept within `prefix_cache_bytes`, and within as many the features. The frozen matrices are
  // multiplied as `storage` says; everything else is in T. They are to be packed before the first question.
  // No bit depends on `threads`.
  NativeTransformer(const TransformerWeights& weights, std::vector<Site> sites, Readout readout,
                    int64_t prefix_cache_bytes, native::Storage storage = native::Storage::full,
                    int64_t threads = 1);
  // Whether there is a native implementation of such a network.
  static bool covers(const ModelConfig& config, const Readout& readout) {
    return NativeNetwork<T>::covers(config, readout);
  }

  const std::vector<Site>& sites() const override { return sites_; }
  std::optional<HeadShape> head() const override { return head_shape(readout_, config_.hidden); }
  std::optional<int64_t> feature_width() const override { return config_.hidden; }
  torch::TensorOptions options() const override { return words_.options(); }
  std::optional<PromptRoom> prompt_room() const override { return std::nullopt; }
  int64_t frozen_parameters() const override { return frozen_parameters_; }
  std::string backend() const override;
  int64_t cached_bytes_per_token() const override;
  int64_t packed_bytes() const override { return int64_t(network_.block.bytes()); }
  void pack_weights(const FilledMemory& memory) override { network_.block.lay_out(memory); }

  Losses loss(const Batch& batch, const AdapterSet& adapters) const override;
  Gradient gradient(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  AdapterSet tangent(GradientPass& pass, const AdapterSet& direction) const override;
  Output output(const Batch& batch, const AdapterSet& adapters, Keep keep) const override;
  OutputLoss output_loss(const Batch& batch, const torch::Tensor& output) const override;
  AdapterSet pullback(OutputPass& pass, const torch::Tensor& cotangent) const override;
  torch::Tensor features(const Batch& batch) const override;

 private:
  struct Run;  // a pass with the adapters that it reads

  std::vector<int64_t> state_widths() const;
  std::vector<int64_t> scored_examples(const Batch& batch) const;
  native::Numbers<T> embed(const Batch& batch) const;
  std::vector<torch::Tensor> prefixes(const Batch& batch) const;
  void start(const Batch& batch, native::Pass<T>& pass) const;
  std::unique_ptr<Run> run(const Batch& batch, const AdapterSet& adapters, native::Reach reach) const;
  torch::Tensor scores(const Run& run) const;
  OutputLoss worth(const Batch& batch, const native::BatchShape& shape, const torch::Tensor& scores) const;
  AdapterSet gradient_of(Run& run, const T* d_scores) const;
  // Clients one after the other: the same bits in less memory.
  bool is_large(const Batch& batch) const;
  Gradient gradient_by_client(const Batch& batch, const AdapterSet& adapters) const;

  ModelConfig config_;
  std::vector<Site> sites_;
  Readout readout_;
  int64_t lowest_layer_;
  int64_t frozen_parameters_;
  torch::Tensor words_, positions_;
  std::vector<T> embedding_gain_, embedding_shift_;  // empty where embeddings have no norm

  NativeNetwork<T> network_;
  mutable native::Team team_;
  const native::TeamKernels<T> kernels_{network_.kernels, &team_};
  mutable native::Pool<T> pool_;
  mutable PrefixCache cache_, features_;
};

}  // namespace pf2lora
