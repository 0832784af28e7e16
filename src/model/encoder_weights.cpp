#include "model/encoder_weights.h"

#include <torch/torch.h>

#include <algorithm>

#include "model/safetensors.h"

namespace pf2lora {
namespace {

class Reader {
 public:
  Reader(const SafeTensors& file, std::string prefix, torch::TensorOptions options)
      : file_(file), prefix_(std::move(prefix)), options_(options) {}

  torch::Tensor tensor(const std::string& name, const std::vector<int64_t>& shape) const {
    return file_.get(prefix_ + name, shape).to(options_);
  }
  FrozenLinear linear(const std::string& name, int64_t out, int64_t in) const {
    return {tensor(name + ".weight", {out, in}), tensor(name + ".bias", {out})};
  }
  FrozenNorm norm(const std::string& name, int64_t size) const {
    // Checkpoints converted from the first BERT releases call these gamma and beta.
    const bool old = file_.contains(prefix_ + name + ".gamma");
    return {tensor(name + (old ? ".gamma" : ".weight"), {size}),
            tensor(name + (old ? ".beta" : ".bias"), {size})};
  }

 private:
  const SafeTensors& file_;
  std::string prefix_;
  torch::TensorOptions options_;
};

}  // namespace

int64_t EncoderWeights::parameters() const {
  int64_t count = words.numel() + positions.numel() + 2 * embedding_norm.weight.numel();
  const auto add = [&](const FrozenLinear& linear) { count += linear.weight.numel() + linear.bias.numel(); };
  for (const EncoderLayer& layer : layers) {
    for (const auto* linear : {&layer.query, &layer.key, &layer.value, &layer.attention_output,
                               &layer.intermediate, &layer.output})
      add(*linear);
    count += 2 * (layer.attention_norm.weight.numel() + layer.output_norm.weight.numel());
  }
  if (pooler.weight.defined()) add(pooler);
  return count;
}

EncoderWeights read_encoder_weights(const std::string& directory, const ModelConfig& config, bool pooler,
                                    const torch::TensorOptions& options) {
  const SafeTensors file(directory + "/model.safetensors");
  const std::string word_name = "embeddings.word_embeddings.weight";
  const Reader read(file, file.contains("bert." + word_name) ? "bert." : "", options);
  const int64_t hidden = config.hidden, wide = config.intermediate;

  EncoderWeights weights;
  weights.config = config;
  weights.words = read.tensor(word_name, {config.vocabulary, hidden});
  weights.positions = read.tensor("embeddings.position_embeddings.weight", {config.positions, hidden}) +
                      read.tensor("embeddings.token_type_embeddings.weight", {config.token_types, hidden})[0];
  weights.embedding_norm = read.norm("embeddings.LayerNorm", hidden);
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string layer = "encoder.layer." + std::to_string(i) + ".";
    weights.layers.push_back(
        {.query = read.linear(layer + "attention.self.query", hidden, hidden),
         .key = read.linear(layer + "attention.self.key", hidden, hidden),
         .value = read.linear(layer + "attention.self.value", hidden, hidden),
         .attention_output = read.linear(layer + "attention.output.dense", hidden, hidden),
         .intermediate = read.linear(layer + "intermediate.dense", wide, hidden),
         .output = read.linear(layer + "output.dense", hidden, wide),
         .attention_norm = read.norm(layer + "attention.output.LayerNorm", hidden),
         .output_norm = read.norm(layer + "output.LayerNorm", hidden)});
  }
  if (pooler) weights.pooler = read.linear("pooler.dense", hidden, hidden);
  return weights;
}

std::vector<Site> encoder_sites(const ModelConfig& config, const std::vector<std::string>& targets,
                                const std::vector<int64_t>& layers) {
  const int64_t hidden = config.hidden, wide = config.intermediate;
  const std::vector<Site> all = {{"attention.self.query", "query", 0, hidden, hidden},
                                 {"attention.self.key", "key", 0, hidden, hidden},
                                 {"attention.self.value", "value", 0, hidden, hidden},
                                 {"attention.output.dense", "attention-output", 0, hidden, hidden},
                                 {"intermediate.dense", "intermediate", 0, wide, hidden},
                                 {"output.dense", "output", 0, hidden, wide}};
  std::vector<Site> sites;
  for (int64_t layer : layers)
    for (Site site : all) {
      if (std::find(targets.begin(), targets.end(), site.target) == targets.end()) continue;
      site.name = "encoder.layer." + std::to_string(layer) + "." + site.name;
      site.layer = layer;
      sites.push_back(site);
    }
  return sites;
}

}  // namespace pf2lora
