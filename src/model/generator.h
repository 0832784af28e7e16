// Text that a decoder generates with the adapters of several clients at once.
#pragma once
#include <vector>

#include "adapters/adapter_set.h"
#include "data/batch.h"
#include "model/layer_sites.h"
#include "model/token_search.h"
#include "model/transformer_weights.h"

namespace pf2lora {

class Generator {
 public:
  // `weights` of any type and device, which outlive the generator; `sites` in the order of transformer_sites.
  // Throws OptionError where the weights are not those of a decoder that scores next tokens.
  Generator(const TransformerWeights& weights, const std::vector<Site>& sites);

  // [N] the new tokens of each of the batch's examples, which are prompts of at least one token, without the
  // end token: what each client's own adapters make of them, whatever else stands in the batch. A prompt that
  // fills the model's positions gets none. Throws OptionError for prompts or prefixes of adapters where the
  // model has no learned positions.
  std::vector<std::vector<int32_t>> generate(const Batch& prompts, const AdapterSet& adapters,
                                             const GenerationRules& rules) const;

 private:
  const TransformerWeights& weights_;
  std::vector<LayerSites> sites_;
};

// The tokens of each example of a batch.
std::vector<std::vector<int32_t>> texts_of(const Batch& batch);

}  // namespace pf2lora
