// GPT-2 (Radford et al. 2019): a pre-norm decoder with learned positions, whose matrices are stored the other
// way round.
#include <nlohmann/json.hpp>

#include "model/family.h"

namespace pf2lora {
namespace {

void configure_gpt2(const nlohmann::json& json, ModelConfig& config) {
  require(json, "scale_attn_weights", true);
  require(json, "scale_attn_by_inverse_layer_idx", false);
  require(json, "add_cross_attention", false);
  config.activation = json.value("activation_function", "gelu_new");
  config.layers = json.at("n_layer");
  config.hidden = json.at("n_embd");
  config.heads = json.at("n_head");
  const auto inner = json.find("n_inner");
  config.intermediate =
      inner == json.end() || inner->is_null() ? 4 * config.hidden : inner->get<int64_t>();
  config.vocabulary = json.at("vocab_size");
  config.positions = json.at("n_positions");
  config.norm_epsilon = json.value("layer_norm_epsilon", 1e-5);
  config.norm_place = NormPlace::before;
  config.causal = true;
  config.tied = json.value("tie_word_embeddings", true);
}

}  // namespace

Family gpt2() {
  return {.architecture = "gpt2",
          .description = "decoder; backends native and reference, --pooling cls reference alone",
          .configure = configure_gpt2,
          .prefixes = {"transformer."},
          .names = {.words = "wte",
                    .positions = "wpe",
                    .layer = "h.",
                    .query = "attn.c_attn",
                    .key = "attn.c_attn",
                    .value = "attn.c_attn",
                    .attention_output = "attn.c_proj",
                    .intermediate = "mlp.c_fc",
                    .output = "mlp.c_proj",
                    .attention_norm = "ln_1",
                    .output_norm = "ln_2",
                    .final_norm = "ln_f",
                    .scores = "lm_head"},
          .transposed = true};
}

}  // namespace pf2lora
