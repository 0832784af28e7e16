#include "model/transformer_weights.h"

#include <torch/types.h>

#include <algorithm>

#include "core/error.h"
#include "model/family.h"
#include "model/weight_files.h"

namespace pf2lora {
namespace {

using torch::Tensor;

class Reader {
 public:
  Reader(const WeightFiles& files, const Family& family, torch::TensorOptions options)
      : files_(files), family_(family), options_(options) {
    for (const std::string& prefix : family.prefixes)
      if (files.contains(prefix + family.names.words + ".weight")) prefix_ = prefix;
  }

  bool contains(const std::string& name) const { return files_.contains(prefix_ + name); }
  Tensor tensor(const std::string& name, const std::vector<int64_t>& shape) const {
    return files_.get(prefix_ + name, shape).to(options_);
  }
  // Without the prefix, which only the base model's names have.
  Tensor head_tensor(const std::string& name, const std::vector<int64_t>& shape) const {
    return files_.get(name, shape).to(options_);
  }

  // Rows [part * out, (part + 1) * out) of a module's matrix that has `parts` times as many.
  FrozenLinear linear(const std::string& name, int64_t out, int64_t in, bool bias, int64_t part = 0,
                      int64_t parts = 1) const {
    const Tensor stored = family_.transposed ? tensor(name + ".weight", {in, parts * out}).t()
                                             : tensor(name + ".weight", {parts * out, in});
    FrozenLinear linear{stored.narrow(0, part * out, out), {}};
    if (bias) linear.bias = tensor(name + ".bias", {parts * out}).narrow(0, part * out, out);
    return linear;
  }
  FrozenNorm norm(const std::string& name, int64_t size, NormKind kind) const {
    // Checkpoints converted from the first BERT releases call these gamma and beta.
    const bool old = contains(name + ".gamma");
    FrozenNorm norm{tensor(name + (old ? ".gamma" : ".weight"), {size}), {}};
    if (kind == NormKind::layer) norm.bias = tensor(name + (old ? ".beta" : ".bias"), {size});
    return norm;
  }

 private:
  const WeightFiles& files_;
  const Family& family_;
  std::string prefix_;
  torch::TensorOptions options_;
};

Tensor read_positions(const Reader& read, const ModelConfig& config, const ModuleNames& names) {
  Tensor sum;
  if (config.position_kind == PositionKind::learned) {
    const int64_t rows = config.first_position + config.positions;
    sum = read.tensor(names.positions + ".weight", {rows, config.hidden})
              .narrow(0, config.first_position, config.positions)
              .unsqueeze(0);
  }
  if (config.token_types > 0) {
    const Tensor types =
        read.tensor(names.token_types + ".weight", {config.token_types, config.hidden}).unsqueeze(1);
    sum = sum.defined() ? sum + types : types;
  }
  return sum;
}

Tensor read_distances(const Reader& read, const ModelConfig& config, const ModuleNames& names) {
  if (config.position_kind != PositionKind::relative) return {};
  const Tensor rows =
      read.tensor(names.relative_positions + ".weight", {2 * config.relative.span(), config.hidden});
  if (!config.relative.normalised) return rows;
  const FrozenNorm norm = read.norm(names.relative_norm, config.hidden, NormKind::layer);
  return torch::layer_norm(rows, {config.hidden}, norm.weight, norm.bias, config.norm_epsilon);
}

TransformerLayer read_layer(const Reader& read, const ModelConfig& config, const Family& family, int64_t i) {
  const ModuleNames& names = family.names;
  const std::string layer = names.layer + std::to_string(i) + ".";
  const int64_t hidden = config.hidden, wide = config.intermediate, query = config.query_width(),
                key = config.key_width(), parts = family.fused_projections() ? 3 : 1;
  const auto projection = [&](const std::string& name, int64_t out, int64_t part) {
    return read.linear(layer + name, out, hidden, config.projection_bias, parts == 1 ? 0 : part, parts);
  };
  const auto norm = [&](const std::string& name) { return read.norm(layer + name, hidden, config.norm); };
  TransformerLayer result{
      .query = projection(names.query, query, 0),
      .key = projection(names.key, key, 1),
      .value = projection(names.value, key, 2),
      .attention_output =
          read.linear(layer + names.attention_output, hidden, query, config.attention_output_bias),
      .intermediate = read.linear(layer + names.intermediate, wide, hidden, config.intermediate_bias),
      .output = read.linear(layer + names.output, hidden, wide, config.intermediate_bias),
      .attention_norm = norm(names.attention_norm),
      .output_norm = norm(names.output_norm)};
  if (config.gated) result.gate = read.linear(layer + names.gate, wide, hidden, config.intermediate_bias);
  return result;
}

}  // namespace

int64_t TransformerWeights::parameters() const {
  int64_t count = 0;
  const auto add = [&](const Tensor& tensor) { count += tensor.defined() ? tensor.numel() : 0; };
  const auto add_both = [&](const auto& part) {
    add(part.weight);
    add(part.bias);
  };
  for (const Tensor* tensor : {&words, &distances, &scores}) add(*tensor);
  const int64_t learned = config.position_kind == PositionKind::learned ? config.positions : 0;
  count += (learned + config.token_types) * config.hidden;
  if (scores.defined() && scores.is_same(words)) count -= words.numel();
  add_both(embedding_norm);
  add_both(final_norm);
  for (const TransformerLayer& layer : layers) {
    for (const auto* linear : {&layer.query, &layer.key, &layer.value, &layer.attention_output, &layer.gate,
                               &layer.intermediate, &layer.output})
      add_both(*linear);
    add_both(layer.attention_norm);
    add_both(layer.output_norm);
  }
  add_both(pooler);
  return count;
}

TransformerWeights read_transformer_weights(const std::string& directory, const ModelConfig& config,
                                            WantedWeights wanted, const torch::TensorOptions& options) {
  const WeightFiles files(directory);
  const Family& family = *config.family;
  const ModuleNames& names = family.names;
  const Reader read(files, family, options);
  const int64_t hidden = config.hidden;

  TransformerWeights weights;
  weights.config = config;
  weights.words = read.tensor(names.words + ".weight", {config.vocabulary, hidden});
  weights.positions = read_positions(read, config, names);
  weights.distances = read_distances(read, config, names);
  if (!names.embedding_norm.empty())
    weights.embedding_norm = read.norm(names.embedding_norm, hidden, config.norm);
  for (int64_t i = 0; i < config.layers; ++i) weights.layers.push_back(read_layer(read, config, family, i));
  if (!names.final_norm.empty()) weights.final_norm = read.norm(names.final_norm, hidden, config.norm);
  if (wanted.pooler) {
    if (names.pooler.empty())
      throw InputError(directory + " is a " + family.architecture +
                       ", which has no pooler of its own; choose another --pooling");
    weights.pooler = read.linear(names.pooler, hidden, hidden, true);
  }
  if (wanted.scores)
    weights.scores = config.tied ? weights.words
                                 : read.head_tensor(names.scores + ".weight", {config.vocabulary, hidden});
  return weights;
}

std::vector<Site> transformer_sites(const ModelConfig& config, const std::vector<std::string>& targets,
                                    const std::vector<int64_t>& layers) {
  const ModuleNames& names = config.family->names;
  const int64_t hidden = config.hidden, wide = config.intermediate, query = config.query_width(),
                key = config.key_width();
  // Parts of one module are told apart by what they are.
  const auto projection = [&](const std::string& module, const std::string& target) {
    return config.family->fused_projections() ? module + "." + target : module;
  };
  const std::vector<Site> all = {{projection(names.query, "query"), "query", 0, query, hidden},
                                 {projection(names.key, "key"), "key", 0, key, hidden},
                                 {projection(names.value, "value"), "value", 0, key, hidden},
                                 {names.attention_output, "attention-output", 0, hidden, query},
                                 {names.gate, "gate", 0, wide, hidden},
                                 {names.intermediate, "intermediate", 0, wide, hidden},
                                 {names.output, "output", 0, hidden, wide}};
  std::vector<Site> sites;
  for (int64_t layer : layers)
    for (Site site : all) {
      if (std::find(targets.begin(), targets.end(), site.target) == targets.end()) continue;
      if (site.name.empty())
        throw OptionError("--targets names " + site.target + ", which a " + config.family->architecture +
                          " has not; leave it out");
      site.name = names.layer + std::to_string(layer) + "." + site.name;
      site.layer = layer;
      sites.push_back(site);
    }
  return sites;
}

}  // namespace pf2lora
