// A transformer as an order of native operations: two graphs, from the embeddings to the states under the
// lowest site, and from there to the scores.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/layer_sites.h"
#include "model/readout.h"
#include "model/transformer_weights.h"
#include "native/graph.h"
#include "native/linear_op.h"
#include "native/rotary_op.h"

namespace pf2lora {

// The numbers of a tensor of type T, row after row; none where it is undefined.
template <class T>
std::vector<T> numbers_of(const torch::Tensor& x) {
  if (!x.defined()) return {};
  const torch::Tensor contiguous = x.contiguous();
  return {contiguous.data_ptr<T>(), contiguous.data_ptr<T>() + contiguous.numel()};
}

// What a layer starts from: its input and, where they are ready, the frozen products of its projections.
struct LayerStart {
  native::ValueId hidden = 0;
  std::optional<native::ValueId> key, value, query;
  std::vector<native::ValueId> all() const;
};

// T: float or double.
template <class T>
class NativeNetwork {
 public:
  // `weights` are of type T. The frozen matrices are multiplied as `storage` says; they are to be laid out in
  // `block` before the graphs are run.
  NativeNetwork(const TransformerWeights& weights, const std::vector<Site>& sites, const Readout& readout,
                native::Storage storage);
  // Whether there are operations for such a network.
  static bool covers(const ModelConfig& config, const Readout& readout);

  const native::Kernels<T>& kernels = native::kernels<T>();
  native::FrozenBlock<T> block;
  native::Graph<T> below, above;
  native::ValueId below_input = 0;    // [T, hidden] embeddings
  LayerStart below_end, above_start;  // what below computes, as above reads it
  native::ValueId pooled = 0;         // [S, hidden] what scores are made of
  native::ValueId scores = 0;         // [S, width]
  native::Per scored;                 // what a row of scores is for
  int64_t score_width = 0;
  std::vector<native::MatrixShape> site_shapes, heads;  // of the sites, and of the layers of the head

 private:
  using Per = native::Per;
  using ValueId = native::ValueId;
  using Graph = native::Graph<T>;
  using Direction = typename native::LinearOperation<T>::Direction;

  native::FrozenLayer<T> frozen(const FrozenLinear& linear, int64_t blocks, Direction direction, bool value,
                                bool gradient);
  ValueId linear(Graph& graph, ValueId x, const FrozenLinear& layer, int site, Per per,
                 std::optional<ValueId> ready = {});
  // By head, with a row for each example: x_h W_h^T + b_h, or backwards x_h W_h.
  ValueId by_head(Graph& graph, ValueId x, const FrozenLinear& layer, int site, Direction direction);
  // Of a sum of one or two values.
  ValueId norm(Graph& graph, std::vector<ValueId> of, const FrozenNorm& norm, Per per) const;
  ValueId add(Graph& graph, ValueId a, ValueId b, Per per) const;
  ValueId active(Graph& graph, ValueId x, const std::string& activation, Per per, int64_t width) const;
  // Turned by the tokens' positions, where the family does so.
  ValueId turned(Graph& graph, ValueId x, int64_t heads) const;
  ValueId attention(Graph& graph, const TransformerLayer& layer, const LayerStart& in, ValueId read,
                    ValueId asking, Per per, const LayerSites& sites);
  ValueId transformer_layer(Graph& graph, const TransformerLayer& layer, const LayerStart& in,
                            const LayerSites& sites, Per per);
  // Rows of tokens for what the scores are for.
  ValueId rows_of(Graph& graph, ValueId tokens, Per per, int64_t width) const;
  void build_below(const TransformerWeights& weights);
  void build_above(const TransformerWeights& weights, const std::vector<LayerSites>& sites);
  void build_scores(const TransformerWeights& weights);

  ModelConfig config_;
  Readout readout_;
  bool means_;  // the head reads the mean over tokens
  int64_t lowest_layer_;
  std::shared_ptr<const native::RotaryTable<T>> rotary_;
};

extern template class NativeNetwork<float>;
extern template class NativeNetwork<double>;

}  // namespace pf2lora
