// Llama (Touvron et al. 2023, arXiv 2302.13971) and Qwen2 (arXiv 2407.10671): pre-norm decoders with RMS norm,
// rotary positions (Su et al. 2021, arXiv 2104.09864), grouped keys (Ainslie et al. 2023, arXiv 2305.13245) and
// SwiGLU (Shazeer 2020, arXiv 2002.05202).
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/error.h"
#include "model/family.h"

namespace pf2lora {
namespace {

// As transformers' ROPE_INIT_FUNCTIONS: default, linear, llama3.
std::vector<double> frequencies(const nlohmann::json& json, int64_t width) {
  // Newer files hold everything in rope_parameters, older ones theta apart from rope_scaling.
  nlohmann::json rope = json.value("rope_parameters", nlohmann::json());
  if (rope.is_null()) rope = json.value("rope_scaling", nlohmann::json());
  if (rope.is_null()) rope = nlohmann::json::object();
  require(rope, "partial_rotary_factor", 1.0);
  const double theta = rope.value("rope_theta", json.value("rope_theta", 10000.0));
  const std::string kind = rope.value("rope_type", rope.value("type", "default"));
  if (kind != "default" && kind != "linear" && kind != "llama3")
    throw InputError("asks for rotary positions of the type '" + kind +
                     "', which is not supported; supported: default, linear, llama3");
  std::vector<double> all;
  for (int64_t i = 0; i < width / 2; ++i) {
    double frequency = std::pow(theta, -2.0 * double(i) / double(width));
    if (kind != "default") {
      const double factor = rope.at("factor");
      if (kind == "linear") {
        frequency /= factor;
      } else {
        const double low = rope.at("low_freq_factor"), high = rope.at("high_freq_factor");
        const double turns =
            rope.at("original_max_position_embeddings").get<double>() * frequency / (2 * std::numbers::pi);
        const double share = std::clamp((turns - low) / (high - low), 0.0, 1.0);
        frequency = (1 - share) * frequency / factor + share * frequency;
      }
    }
    all.push_back(frequency);
  }
  return all;
}

void configure_decoder(const nlohmann::json& json, ModelConfig& config) {
  config.activation = json.value("hidden_act", "silu");
  config.layers = json.at("num_hidden_layers");
  config.hidden = json.at("hidden_size");
  config.heads = json.at("num_attention_heads");
  config.key_heads = json.value("num_key_value_heads", config.heads);
  const auto width = json.find("head_dim");
  if (width != json.end() && !width->is_null()) config.head_width = *width;
  if (config.head_width == 0 && config.heads > 0) config.head_width = config.hidden / config.heads;
  config.intermediate = json.at("intermediate_size");
  config.vocabulary = json.at("vocab_size");
  config.positions = json.at("max_position_embeddings");
  config.norm_epsilon = json.value("rms_norm_eps", 1e-6);
  config.norm = NormKind::rms;
  config.norm_place = NormPlace::before;
  config.position_kind = PositionKind::rotary;
  config.rotary_frequencies = frequencies(json, config.head_width);
  config.causal = true;
  config.gated = true;
  config.tied = json.value("tie_word_embeddings", false);
}

void configure_llama(const nlohmann::json& json, ModelConfig& config) {
  configure_decoder(json, config);
  config.projection_bias = config.attention_output_bias = json.value("attention_bias", false);
  config.intermediate_bias = json.value("mlp_bias", false);
}

void configure_qwen2(const nlohmann::json& json, ModelConfig& config) {
  require(json, "use_sliding_window", false);
  configure_decoder(json, config);
  config.attention_output_bias = config.intermediate_bias = false;
}

}  // namespace

Family llama() {
  return {.architecture = "llama",
          .description = "decoder; backends native and reference, --pooling cls reference alone",
          .configure = configure_llama,
          .prefixes = {"model."},
          .names = {.words = "embed_tokens",
                    .layer = "layers.",
                    .query = "self_attn.q_proj",
                    .key = "self_attn.k_proj",
                    .value = "self_attn.v_proj",
                    .attention_output = "self_attn.o_proj",
                    .gate = "mlp.gate_proj",
                    .intermediate = "mlp.up_proj",
                    .output = "mlp.down_proj",
                    .attention_norm = "input_layernorm",
                    .output_norm = "post_attention_layernorm",
                    .final_norm = "norm",
                    .scores = "lm_head"}};
}

Family qwen2() {
  Family family = llama();
  family.architecture = "qwen2";
  family.configure = configure_qwen2;
  return family;
}

}  // namespace pf2lora
