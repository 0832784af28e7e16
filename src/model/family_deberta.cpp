// DeBERTa-v2 and -v3 (He et al. 2021, arXiv 2111.09543): a post-norm encoder whose attention sees relative
// positions by embeddings of their own, projected by the layers' own query and key.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "model/family.h"

namespace pf2lora {
namespace {

// A list, or its items in one text with '|' between them.
bool names(const nlohmann::json& json, const std::string& key, const std::string& item) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return false;
  if (found->is_array()) return std::find(found->begin(), found->end(), item) != found->end();
  return ("|" + found->get<std::string>() + "|").find("|" + item + "|") != std::string::npos;
}

void configure_deberta(const nlohmann::json& json, ModelConfig& config) {
  require(json, "relative_attention", true);
  require(json, "position_biased_input", false);
  require(json, "share_att_key", true);
  require(json, "conv_kernel_size", 0);
  config.activation = json.value("hidden_act", "gelu");
  config.layers = json.at("num_hidden_layers");
  config.hidden = json.at("hidden_size");
  require(json, "embedding_size", config.hidden);
  require(json, "pooler_hidden_size", config.hidden);
  config.heads = json.at("num_attention_heads");
  config.intermediate = json.at("intermediate_size");
  config.vocabulary = json.at("vocab_size");
  config.positions = json.at("max_position_embeddings");
  config.token_types = json.value("type_vocab_size", int64_t{0});
  config.norm_epsilon = json.value("layer_norm_eps", 1e-7);
  config.position_kind = PositionKind::relative;
  config.dense_activation = json.value("pooler_hidden_act", "gelu");

  RelativePositions& relative = config.relative;
  relative.content_to_position = names(json, "pos_att_type", "c2p");
  relative.position_to_content = names(json, "pos_att_type", "p2c");
  relative.normalised = names(json, "norm_rel_ebd", "layer_norm");
  relative.buckets = std::max(int64_t{0}, json.value("position_buckets", int64_t{-1}));
  relative.farthest = json.value("max_relative_positions", int64_t{-1});
  if (relative.farthest < 1) relative.farthest = config.positions;
  if (!json.value("relative_attention", false) || !json.value("share_att_key", false) ||
      json.value("position_biased_input", true))
    throw InputError(
        "lacks relative_attention true, share_att_key true and position_biased_input false; only that form of "
        "DeBERTa, of its v3 and later v2, is supported");
}

}  // namespace

Family deberta_v2() {
  return {.architecture = "deberta-v2",
          .description = "encoder, DeBERTa-v3 too; backend reference",
          .configure = configure_deberta,
          .prefixes = {"deberta."},
          .names = {.words = "embeddings.word_embeddings",
                    .token_types = "embeddings.token_type_embeddings",
                    .embedding_norm = "embeddings.LayerNorm",
                    .relative_positions = "encoder.rel_embeddings",
                    .relative_norm = "encoder.LayerNorm",
                    .layer = "encoder.layer.",
                    .query = "attention.self.query_proj",
                    .key = "attention.self.key_proj",
                    .value = "attention.self.value_proj",
                    .attention_output = "attention.output.dense",
                    .intermediate = "intermediate.dense",
                    .output = "output.dense",
                    .attention_norm = "attention.output.LayerNorm",
                    .output_norm = "output.LayerNorm"}};
}

}  // namespace pf2lora
