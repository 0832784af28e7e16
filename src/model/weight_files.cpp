#include "model/weight_files.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"

namespace pf2lora {

std::vector<std::string> weight_file_paths(const std::string& directory) {
  const std::string whole = directory + "/model.safetensors", index = whole + ".index.json";
  std::error_code ignored;
  if (std::filesystem::exists(whole, ignored) || !std::filesystem::exists(index, ignored)) return {whole};
  std::set<std::string> names;
  try {
    std::ifstream stream(index);
    const auto json = nlohmann::json::parse(stream);
    for (const auto& [tensor, file] : json.at("weight_map").items()) names.insert(file.get<std::string>());
  } catch (const nlohmann::json::exception& error) {
    throw InputError(index + " is damaged or incomplete: " + error.what());
  }
  std::vector<std::string> paths;
  for (const std::string& name : names) paths.push_back(directory + "/" + name);
  return paths;
}

WeightFiles::WeightFiles(const std::string& directory) : directory_(directory) {
  for (const std::string& path : weight_file_paths(directory)) files_.emplace_back(path);
}

const SafeTensors* WeightFiles::file_of(const std::string& name) const {
  const auto found =
      std::find_if(files_.begin(), files_.end(), [&](const SafeTensors& file) { return file.contains(name); });
  return found == files_.end() ? nullptr : &*found;
}

torch::Tensor WeightFiles::get(const std::string& name, const std::vector<int64_t>& shape) const {
  const SafeTensors* file = file_of(name);
  if (file == nullptr)
    throw InputError((files_.size() == 1 ? files_.front().path() : directory_) + " has no tensor " + name +
                     "; it does not fit the config.json beside it");
  return file->get(name, shape);
}

}  // namespace pf2lora
