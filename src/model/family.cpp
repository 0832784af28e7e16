#include "model/family.h"

#include <array>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace pf2lora {

std::span<const Family> families() {
  static const std::array all = {bert(), roberta(), distilbert(), deberta_v2(), gpt2(), llama(), qwen2()};
  return all;
}

void require(const nlohmann::json& json, const std::string& key, const nlohmann::json& supported) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null() || *found == supported) return;
  throw InputError("asks for " + key + " " + found->dump() + "; only " + supported.dump() + " is supported");
}

}  // namespace pf2lora
