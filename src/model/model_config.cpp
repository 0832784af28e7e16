#include "model/model_config.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "model/family.h"

namespace pf2lora {
namespace {

constexpr std::array kActivations = {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"};
constexpr std::array kDenseActivations = {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh"};

// Throws InputError where `value` is none of the names.
template <class Names>
void require_one_of(const Names& names, const std::string& value, const std::string& what) {
  std::string list;
  for (const auto& name : names) {
    if (name == value) return;
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  throw InputError("names the " + what + " '" + value + "', which is not supported; supported: " + list);
}

const Family& family_of(const std::string& architecture) {
  std::vector<std::string> names;
  for (const Family& family : families()) {
    if (family.architecture == architecture) return family;
    names.push_back(family.architecture);
  }
  require_one_of(names, architecture, "architecture");
  throw InputError("names no architecture");
}

void check_sizes(const ModelConfig& config) {
  for (const auto& [value, name] : {std::pair{config.layers, "the number of layers"},
                                    {config.hidden, "the hidden size"},
                                    {config.heads, "the number of attention heads"},
                                    {config.intermediate, "the intermediate size"},
                                    {config.vocabulary, "the vocabulary's size"},
                                    {config.positions, "the number of positions"}})
    if (value < 1)
      throw InputError("gives " + std::string(name) + " as " + std::to_string(value) +
                       "; it must be positive");
  if (config.head_width == 0 && config.hidden % config.heads != 0)
    throw InputError("gives a hidden size of " + std::to_string(config.hidden) + " that " +
                     std::to_string(config.heads) + " attention heads do not divide");
  if (config.position_kind == PositionKind::rotary && config.head_width % 2 != 0)
    throw InputError("gives attention heads a width of " + std::to_string(config.head_width) +
                     "; rotary positions turn pairs, so it must be even");
  if (config.key_heads < 0 || (config.key_heads > 0 && config.heads % config.key_heads != 0))
    throw InputError("gives " + std::to_string(config.heads) + " attention heads that cannot share " +
                     std::to_string(config.key_heads) + " heads of keys and values");
}

ModelConfig read(const nlohmann::json& json) {
  ModelConfig config;
  config.family = &family_of(json.value("model_type", ""));
  config.family->configure(json, config);
  require_one_of(kActivations, config.activation, "activation");
  if (!config.dense_activation.empty())
    require_one_of(kDenseActivations, config.dense_activation, "head's activation");
  check_sizes(config);
  if (config.head_width == 0) config.head_width = config.hidden / config.heads;
  if (config.key_heads == 0) config.key_heads = config.heads;
  return config;
}

}  // namespace

ModelConfig read_model_config(const std::string& directory) {
  const std::string file = directory + "/config.json";
  std::ifstream stream(file);
  if (!stream)
    throw InputError("cannot read " + file +
                     "; --model takes a directory with config.json and model.safetensors");
  try {
    return read(nlohmann::json::parse(stream));
  } catch (const nlohmann::json::exception& error) {
    throw InputError(file + " is damaged or incomplete: " + error.what());
  } catch (const InputError& error) {
    throw InputError(file + " " + error.what());
  }
}

}  // namespace pf2lora
