// BERT (Devlin et al. 2019, arXiv 1810.04805), RoBERTa (Liu et al. 2019, arXiv 1907.11692) and DistilBERT
// (Sanh et al. 2019, arXiv 1910.01108): post-norm encoders with learned positions.
#include <nlohmann/json.hpp>

#include "model/family.h"

namespace pf2lora {
namespace {

void configure_bert(const nlohmann::json& json, ModelConfig& config) {
  require(json, "position_embedding_type", "absolute");
  require(json, "is_decoder", false);
  config.activation = json.value("hidden_act", "gelu");
  config.layers = json.at("num_hidden_layers");
  config.hidden = json.at("hidden_size");
  config.heads = json.at("num_attention_heads");
  config.intermediate = json.at("intermediate_size");
  config.vocabulary = json.at("vocab_size");
  config.positions = json.at("max_position_embeddings");
  config.token_types = json.value("type_vocab_size", int64_t{2});
  config.norm_epsilon = json.value("layer_norm_eps", 1e-12);
}

// Positions count from one beyond the padding token's number.
void configure_roberta(const nlohmann::json& json, ModelConfig& config) {
  configure_bert(json, config);
  config.first_position = json.value("pad_token_id", int64_t{1}) + 1;
  config.positions -= config.first_position;
  config.dense_activation = "tanh";
}

void configure_distilbert(const nlohmann::json& json, ModelConfig& config) {
  config.activation = json.value("activation", "gelu");
  config.layers = json.at("n_layers");
  config.hidden = json.at("dim");
  config.heads = json.at("n_heads");
  config.intermediate = json.at("hidden_dim");
  config.vocabulary = json.at("vocab_size");
  config.positions = json.at("max_position_embeddings");
  config.norm_epsilon = 1e-12;
  config.dense_activation = "relu";
}

}  // namespace

Family bert() {
  return {.architecture = "bert",
          .description = "encoder; backends native and reference",
          .configure = configure_bert,
          .prefixes = {"bert."},
          .names = {.words = "embeddings.word_embeddings",
                    .positions = "embeddings.position_embeddings",
                    .token_types = "embeddings.token_type_embeddings",
                    .embedding_norm = "embeddings.LayerNorm",
                    .layer = "encoder.layer.",
                    .query = "attention.self.query",
                    .key = "attention.self.key",
                    .value = "attention.self.value",
                    .attention_output = "attention.output.dense",
                    .intermediate = "intermediate.dense",
                    .output = "output.dense",
                    .attention_norm = "attention.output.LayerNorm",
                    .output_norm = "output.LayerNorm",
                    .pooler = "pooler.dense"}};
}

Family roberta() {
  Family family = bert();
  family.architecture = "roberta";
  family.description = "encoder; backends native and reference";
  family.configure = configure_roberta;
  family.prefixes = {"roberta."};
  return family;
}

Family distilbert() {
  return {.architecture = "distilbert",
          .description = "encoder; backends native and reference",
          .configure = configure_distilbert,
          .prefixes = {"distilbert."},
          .names = {.words = "embeddings.word_embeddings",
                    .positions = "embeddings.position_embeddings",
                    .embedding_norm = "embeddings.LayerNorm",
                    .layer = "transformer.layer.",
                    .query = "attention.q_lin",
                    .key = "attention.k_lin",
                    .value = "attention.v_lin",
                    .attention_output = "attention.out_lin",
                    .intermediate = "ffn.lin1",
                    .output = "ffn.lin2",
                    .attention_norm = "sa_layer_norm",
                    .output_norm = "output_layer_norm"}};
}

}  // namespace pf2lora
