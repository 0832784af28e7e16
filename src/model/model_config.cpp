#include "model/model_config.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace pf2lora {
namespace {

constexpr std::array kArchitectures = {"bert"};
constexpr std::array kActivations = {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu"};

template <size_t N>
void require_one_of(const std::array<const char*, N>& names, const std::string& value,
                    const std::string& what, const std::string& file) {
  if (std::find(names.begin(), names.end(), value) != names.end()) return;
  std::string list;
  for (const char* name : names) list += (list.empty() ? "" : ", ") + std::string(name);
  throw InputError(file + " names the " + what + " '" + value +
                   "', which is not supported; supported: " + list);
}

}  // namespace

ModelConfig read_model_config(const std::string& directory) {
  const std::string file = directory + "/config.json";
  std::ifstream stream(file);
  if (!stream)
    throw InputError("cannot read " + file +
                     "; --model takes a directory with config.json and model.safetensors");
  ModelConfig config;
  try {
    const auto json = nlohmann::json::parse(stream);
    config.architecture = json.value("model_type", "");
    require_one_of(kArchitectures, config.architecture, "architecture", file);
    config.activation = json.value("hidden_act", "gelu");
    require_one_of(kActivations, config.activation, "activation", file);
    if (json.value("position_embedding_type", "absolute") != "absolute")
      throw InputError(file + " asks for position embeddings of type '" +
                       json.value("position_embedding_type", "") + "'; only 'absolute' is supported");
    config.layers = json.at("num_hidden_layers");
    config.hidden = json.at("hidden_size");
    config.heads = json.at("num_attention_heads");
    config.intermediate = json.at("intermediate_size");
    config.vocabulary = json.at("vocab_size");
    config.positions = json.at("max_position_embeddings");
    config.token_types = json.value("type_vocab_size", int64_t{2});
    config.norm_epsilon = json.value("layer_norm_eps", 1e-12);
  } catch (const nlohmann::json::exception& error) {
    throw InputError(file + " is damaged or incomplete: " + error.what());
  }
  for (const auto& [value, name] : {std::pair{config.layers, "num_hidden_layers"},
                                    {config.hidden, "hidden_size"},
                                    {config.heads, "num_attention_heads"},
                                    {config.intermediate, "intermediate_size"},
                                    {config.vocabulary, "vocab_size"},
                                    {config.positions, "max_position_embeddings"}})
    if (value < 1)
      throw InputError(file + " gives " + name + " as " + std::to_string(value) + "; it must be positive");
  if (config.hidden % config.heads != 0)
    throw InputError(file + " gives a hidden_size of " + std::to_string(config.hidden) + " that " +
                     std::to_string(config.heads) + " attention heads do not divide");
  return config;
}

}  // namespace pf2lora
