// Small random encoders, batches and adapters in double, and arithmetic on adapters.
#pragma once
#include <torch/types.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "adapters/random_tensors.h"
#include "model/family.h"
#include "model/native_transformer.h"
#include "model/reference_transformer.h"

namespace pf2lora {

inline const std::vector<std::string> kAllTargets = {"query",        "key",   "value", "attention-output",
                                                     "intermediate", "output"};

inline const Family& family_named(const std::string& architecture) {
  return *std::find_if(families().begin(), families().end(),
                       [&](const Family& family) { return family.architecture == architecture; });
}

inline ModelConfig small_config(int64_t layers = 2, const std::string& activation = "gelu") {
  return {.family = &family_named("bert"),
          .activation = activation,
          .layers = layers,
          .hidden = 12,
          .heads = 3,
          .key_heads = 3,
          .head_width = 4,
          .intermediate = 20,
          .vocabulary = 50,
          .positions = 16,
          .token_types = 2};
}

inline TransformerWeights random_weights(const ModelConfig& config, uint64_t seed) {
  RandomTensors random(seed);
  const int64_t hidden = config.hidden, wide = config.intermediate;
  const auto linear = [&](int64_t out, int64_t in) {
    return FrozenLinear{random.normal({out, in}, 0.4), random.normal({out}, 0.2)};
  };
  const auto norm = [&] {
    return FrozenNorm{1 + random.normal({hidden}, 0.2), random.normal({hidden}, 0.2)};
  };
  TransformerWeights weights;
  weights.config = config;
  weights.words = random.normal({config.vocabulary, hidden});
  weights.positions = random.normal({config.token_types, config.positions, hidden});
  weights.embedding_norm = norm();
  for (int64_t i = 0; i < config.layers; ++i)
    weights.layers.push_back({.query = linear(hidden, hidden),
                              .key = linear(hidden, hidden),
                              .value = linear(hidden, hidden),
                              .attention_output = linear(hidden, hidden),
                              .intermediate = linear(wide, hidden),
                              .output = linear(hidden, wide),
                              .attention_norm = norm(),
                              .output_norm = norm()});
  weights.pooler = linear(hidden, hidden);
  return weights;
}

inline std::vector<torch::Tensor*> tensors_of(TransformerWeights& weights) {
  std::vector<torch::Tensor*> all = {&weights.words,
                                     &weights.positions,
                                     &weights.embedding_norm.weight,
                                     &weights.embedding_norm.bias,
                                     &weights.pooler.weight,
                                     &weights.pooler.bias};
  for (TransformerLayer& layer : weights.layers) {
    for (FrozenLinear* linear : {&layer.query, &layer.key, &layer.value, &layer.attention_output,
                                 &layer.intermediate, &layer.output})
      all.insert(all.end(), {&linear->weight, &linear->bias});
    for (FrozenNorm* norm : {&layer.attention_norm, &layer.output_norm})
      all.insert(all.end(), {&norm->weight, &norm->bias});
  }
  return all;
}

// Either implementation, of the weights' type.
inline std::unique_ptr<Model> any_transformer(bool native, const TransformerWeights& weights,
                                              const std::vector<Site>& sites, const Readout& readout,
                                              int64_t prefix_cache_bytes = 0) {
  std::unique_ptr<Model> model;
  if (!native)
    model = std::make_unique<ReferenceTransformer>(weights, sites, readout, prefix_cache_bytes);
  else if (weights.words.scalar_type() == torch::kFloat64)
    model = std::make_unique<NativeTransformer<double>>(weights, sites, readout, prefix_cache_bytes);
  else
    model = std::make_unique<NativeTransformer<float>>(weights, sites, readout, prefix_cache_bytes);
  model->pack_weights(own_filled_memory);
  return model;
}

// Vectors of a prompt before the tokens, and of a prefix of every layer.
struct PromptCounts {
  int64_t prompt = 0, prefix = 0;
};

struct SmallTransformer {
  ModelConfig config = small_config();
  std::vector<std::string> targets = kAllTargets;
  std::vector<int64_t> layers = {0, 1};
  Pooling pooling = Pooling::cls;
  int64_t classes = 4;
  int64_t prefix_cache_bytes = 1 << 20;
  uint64_t seed = 1;
  PromptCounts prompts = {};  // of adapters that fit the test
  bool native = false;

  Readout readout() const { return {.pooling = pooling, .classes = classes}; }
  std::unique_ptr<Model> make() const { return make_with(random_weights(config, seed)); }
  std::unique_ptr<Model> make_with(const TransformerWeights& weights) const {
    return any_transformer(native, weights, transformer_sites(config, targets, layers), readout(),
                           prefix_cache_bytes);
  }
};

// Each of those that have no prompts also as native.
inline std::vector<SmallTransformer> with_native(std::vector<SmallTransformer> all) {
  for (SmallTransformer small : std::vector(all)) {
    if (small.prompts.prompt > 0 || small.prompts.prefix > 0) continue;
    small.native = true;
    all.push_back(small);
  }
  return all;
}

// Lengths of the examples of three clients.
inline const std::vector<std::vector<int64_t>> kThreeClients = {{4, 1, 9}, {6}, {3, 16, 2, 2}};

// One client for each list of examples' lengths; example numbers count on.
inline Batch random_batch(const std::vector<std::vector<int64_t>>& lengths, const ModelConfig& config,
                          int64_t classes, uint64_t seed) {
  RandomTensors random(seed);
  Batch batch;
  batch.client_offsets = batch.token_offsets = {0};
  for (size_t g = 0; g < lengths.size(); ++g) {
    batch.clients.push_back(int64_t(g));
    for (int64_t length : lengths[g]) {
      batch.examples.push_back(int64_t(batch.examples.size()));
      for (int64_t t = 0; t < length; ++t) batch.tokens.push_back(int32_t(random.below(config.vocabulary)));
      batch.token_offsets.push_back(int64_t(batch.tokens.size()));
      batch.labels.push_back(int32_t(random.below(classes)));
    }
    batch.client_offsets.push_back(int64_t(batch.examples.size()));
  }
  return batch;
}

// The part of a batch that belongs to client g.
inline Batch batch_of(const Batch& batch, size_t g) {
  const int64_t begin = batch.client_offsets[g], end = batch.client_offsets[g + 1];
  const int64_t first = batch.token_offsets[size_t(begin)], last = batch.token_offsets[size_t(end)];
  Batch one;
  one.clients = {batch.clients[g]};
  one.client_offsets = {0, end - begin};
  one.examples.assign(batch.examples.begin() + begin, batch.examples.begin() + end);
  one.labels.assign(batch.labels.begin() + begin, batch.labels.begin() + end);
  one.tokens.assign(batch.tokens.begin() + first, batch.tokens.begin() + last);
  for (int64_t i = begin; i <= end; ++i) one.token_offsets.push_back(batch.token_offsets[size_t(i)] - first);
  return one;
}

inline AdapterSet random_adapters(const Model& model, int64_t clients, int64_t rank, uint64_t seed,
                                  double deviation = 0.3, PromptCounts prompts = {}) {
  RandomTensors random(seed);
  AdapterSet set;
  for (const Site& site : model.sites())
    set.pairs.push_back({random.normal({clients, rank, site.columns}, deviation),
                         random.normal({clients, site.rows, rank}, deviation)});
  if (const auto head = model.head()) {
    if (head->dense > 0) {
      set.head_dense_weight = random.normal({clients, head->dense, head->inputs}, deviation);
      set.head_dense_bias = random.normal({clients, head->dense}, deviation);
    }
    const int64_t read = head->dense > 0 ? head->dense : head->inputs;
    set.head_weight = random.normal({clients, head->classes, read}, deviation);
    set.head_bias = random.normal({clients, head->classes}, deviation);
  }
  if (const auto room = model.prompt_room()) {
    const auto vectors = [&](int64_t count) {
      return random.normal({clients, count, room->width}, std::min(1.0, 3 * deviation));
    };
    if (prompts.prompt > 0) set.prompt = vectors(prompts.prompt);
    for (int64_t layer = 0; prompts.prefix > 0 && layer < room->layers; ++layer)
      set.prefix.push_back({vectors(prompts.prefix), vectors(prompts.prefix)});
  }
  return set;
}

// Scores of the classes [N, classes].
inline torch::Tensor logits(const Model& model, const Batch& batch, const AdapterSet& adapters) {
  return model.output(batch, adapters).values;
}

inline AdapterSet map(const AdapterSet& set, const std::function<torch::Tensor(const torch::Tensor&)>& act) {
  std::vector<torch::Tensor> results;
  for (const torch::Tensor& tensor : set.tensors()) results.push_back(act(tensor));
  return set.with_tensors(results);
}

// a + scale * b
inline AdapterSet add(const AdapterSet& a, double scale, const AdapterSet& b) {
  std::vector<torch::Tensor> results = a.tensors();
  const auto others = b.tensors();
  for (size_t i = 0; i < results.size(); ++i) results[i] = results[i] + scale * others[i];
  return a.with_tensors(results);
}

// Everything of each client in one row [G, P].
inline torch::Tensor rows_of(const AdapterSet& set) {
  std::vector<torch::Tensor> pieces;
  for (const torch::Tensor& tensor : set.tensors()) pieces.push_back(tensor.flatten(1));
  return torch::cat(pieces, 1);
}

inline AdapterSet client_of(const AdapterSet& set, int64_t g) {
  return map(set, [&](const torch::Tensor& tensor) { return tensor.narrow(0, g, 1); });
}

// In float or double.
inline AdapterSet as(const AdapterSet& set, torch::ScalarType type) {
  return map(set, [&](const torch::Tensor& tensor) { return tensor.to(type); });
}

}  // namespace pf2lora
