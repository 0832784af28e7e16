#include "model/start_adapter.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <regex>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/option_values.h"
#include "core/text.h"
#include "model/family.h"
#include "model/safetensors.h"
#include "model/transformer.h"
#include "model/transformer_weights.h"

namespace pf2lora {
namespace {

using torch::Tensor;

const std::string kRoot = "base_model.model.", kDown = ".lora_A.weight", kUp = ".lora_B.weight";
// What transformers calls the layers of a head, and the slices that they are.
const std::map<std::string, std::string> kHeadModules = {
    {"classifier", "head"},        {"classifier.out_proj", "head"},  {"score", "head"},
    {"qa_outputs", "head"},        {"pre_classifier", "head/dense"}, {"classifier.dense", "head/dense"},
    {"pooler.dense", "head/dense"}};
constexpr const char* kAnotherFolder = "; give a folder of a plain LoRA as save_pretrained of PEFT writes it";

std::string text(double number) {
  std::ostringstream stream;
  stream << number;
  return stream.str();
}

std::string text(const Tensor& tensor) {
  std::ostringstream stream;
  stream << tensor.sizes();
  return stream.str();
}

nlohmann::json read_settings(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw InputError("cannot read " + path + kAnotherFolder);
  nlohmann::json json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw InputError(path + " is no JSON object" + kAnotherFolder);
  const auto refuse = [&](const std::string& what) { throw InputError(path + " " + what + kAnotherFolder); };
  const std::string type = json.value("peft_type", nlohmann::json("none")).dump();
  if (type != "\"LORA\"") refuse("has the peft_type " + type);
  if (!json.contains("r") || !json["r"].is_number_integer()) refuse("has no whole number r");
  if (!json.contains("lora_alpha") || !json["lora_alpha"].is_number()) refuse("has no number lora_alpha");
  for (const char* flag : {"use_dora", "lora_bias"})
    if (json.value(flag, nlohmann::json(false)) == true) refuse("says " + std::string(flag));
  if (const auto bias = json.value("bias", nlohmann::json("none")); bias != "none")
    refuse("trains biases (" + bias.dump() + ")");
  if (const auto start = json.value("init_lora_weights", nlohmann::json(true)); start.is_string())
    for (const std::string name : {"pissa", "olora", "loftq", "corda"})
      if (start.get<std::string>().starts_with(name))
        refuse("says init_lora_weights " + start.dump() + ", which changes the frozen weights too");
  return json;
}

// What PEFT multiplies a module's product of that rank by.
double scale_of(const nlohmann::json& settings, const std::string& module, int64_t rank) {
  double alpha = settings["lora_alpha"];
  const auto patterns = settings.value("alpha_pattern", nlohmann::json::object());
  for (const auto& [pattern, own] : patterns.items())
    if (std::regex_match(module, std::regex("(.*\\.)?(" + pattern + ")"))) {
      alpha = own;
      break;
    }
  const bool stable = settings.value("use_rslora", nlohmann::json(false)) == true;
  return alpha / (stable ? std::sqrt(double(rank)) : double(rank));
}

// The folder's tensors of one module.
struct SavedPair {
  Tensor down;  // [R, in]
  Tensor up;    // [out, R]
};

class StartAdapter {
 public:
  StartAdapter(const Options& options, const ModelConfig& config, const Model& model)
      : options_(options), config_(config), model_(model), folder_(options.start_adapter) {
    if (!std::filesystem::is_directory(folder_))
      throw InputError("--start-adapter: there is no folder '" + folder_ + "'" + kAnotherFolder);
    std::vector<int64_t> layers(static_cast<size_t>(config.layers));
    std::iota(layers.begin(), layers.end(), 0);
    std::vector<std::string> targets = kTargets;
    if (config.family->names.gate.empty()) std::erase(targets, "gate");
    for (const Site& site : transformer_sites(config, targets, layers))
      modules_[module_of(site)].push_back(site);
    settings_ = read_settings(start_adapter_files(folder_)[0]);
    read_tensors();
  }

  Problem::Start start() {
    check_sites();
    for (const auto& [module, pair] : pairs_) take_pair(module, pair);
    take_head();
    return std::move(start_);
  }

 private:
  // Where query, key and value are one module, their sites are parts of it.
  std::string module_of(const Site& site) const {
    const bool part = config_.family->fused_projections() && site.name.ends_with("." + site.target);
    return part ? site.name.substr(0, site.name.size() - site.target.size() - 1) : site.name;
  }
  InputError bad(const std::string& what) const {
    return InputError("--start-adapter " + folder_ + " " + what);
  }
  OptionError unlike(const std::string& what, const std::string& advice) const {
    return OptionError("--start-adapter " + folder_ + " " + what + "; give " + advice);
  }

  // A module's name in the model without a head.
  std::string base_name(const std::string& name) const {
    if (!modules_.contains(name))
      for (const std::string& prefix : config_.family->prefixes)
        if (name.starts_with(prefix) && modules_.contains(name.substr(prefix.size())))
          return name.substr(prefix.size());
    return name;
  }

  void read_tensors() {
    const SafeTensors file(start_adapter_files(folder_)[1]);
    std::set<std::string> unknown;
    for (const std::string& stored : file.names()) {
      std::string name = stored;
      if (name.starts_with(kRoot)) name = name.substr(kRoot.size());
      const Tensor tensor = file.get(stored, file.shape(stored)).to(model_.options());
      const bool down = name.ends_with(kDown);
      if (down || name.ends_with(kUp)) {
        const std::string module = base_name(name.substr(0, name.size() - kDown.size()));
        if (!modules_.contains(module)) unknown.insert(module);
        (down ? pairs_[module].down : pairs_[module].up) = tensor;
        names_[module] = name.substr(0, name.size() - kDown.size());
        continue;
      }
      const size_t dot = name.rfind('.');
      const auto module = kHeadModules.find(name.substr(0, dot));
      if (dot == std::string::npos || module == kHeadModules.end())
        throw bad("holds " + stored + ", which is no part of a LoRA or of a head" + kAnotherFolder);
      head_[module->second + name.substr(dot)] = tensor;
      pooled_ = pooled_ || module->first != "qa_outputs";
    }
    if (pairs_.empty()) throw bad("holds no LoRA" + std::string(kAnotherFolder));
    if (!unknown.empty())
      throw bad("adapts " + *unknown.begin() + ", which is none of the matrices of " + options_.model +
                ", a " + config_.family->architecture +
                ", that can be adapted; give an adapter of this model");
    for (const auto& [module, pair] : pairs_)
      if (!pair.down.defined() || !pair.up.defined() || pair.down.dim() != 2 || pair.up.dim() != 2 ||
          pair.down.size(0) != pair.up.size(1))
        throw bad("has no two matrices of one rank for " + module + kAnotherFolder);
  }

  // The folder's modules are those of the run.
  void check_sites() const {
    std::set<std::string> wanted, found;
    for (const Site& site : model_.sites()) wanted.insert(module_of(site));
    for (const auto& [module, pair] : pairs_) found.insert(module);
    if (wanted == found) return;
    std::vector<std::string> targets, layers;
    std::set<int64_t> numbers;
    for (const std::string& target : kTargets)
      for (const std::string& module : found) {
        const auto& sites = modules_.at(module);
        if (std::none_of(sites.begin(), sites.end(), [&](const Site& s) { return s.target == target; }))
          continue;
        if (std::find(targets.begin(), targets.end(), target) == targets.end()) targets.push_back(target);
        numbers.insert(sites[0].layer);
      }
    for (int64_t number : numbers) layers.push_back(std::to_string(number));
    throw unlike("adapts " + std::to_string(found.size()) + " matrices, and the run " +
                     std::to_string(wanted.size()) + (found.size() == wanted.size() ? " others" : ""),
                 "--targets " + join(targets, ",") + " --adapted-layers " + join(layers, ","));
  }

  void take_pair(const std::string& module, const SavedPair& pair) {
    std::vector<Site> parts, mine;  // of the module, and those of them that the run adapts
    parts = modules_.at(module);
    for (const Site& part : parts)
      for (const Site& site : model_.sites())
        if (site.name == part.name) mine.push_back(site);
    int64_t rows = 0;
    for (const Site& part : parts) rows += part.rows;
    if (pair.down.size(1) != parts[0].columns || pair.up.size(0) != rows)
      throw bad("has " + text(pair.up) + " times " + text(pair.down) + " for " + module + ", which has " +
                std::to_string(rows) + " outputs and " + std::to_string(parts[0].columns) + " inputs in " +
                options_.model + "; give an adapter of this model");
    const int64_t found = pair.down.size(0), rank = options_.rank;
    const bool apart = found != rank && found == rank * int64_t(mine.size());
    if (found != rank && !apart)
      throw unlike("has rank " + std::to_string(found) + " at " + module + ", and the run --rank " +
                       std::to_string(rank),
                   "--rank " + std::to_string(found));
    const double scale = scale_of(settings_, names_.at(module), found),
                 own = options_.lora_alpha / double(rank);
    if (std::abs(scale - own) > 1e-9 * std::abs(scale))
      throw unlike("scales its product by " + text(scale) + " at " + module + ", and the run by " +
                       text(own) + " (--lora-alpha / --rank)",
                   "--lora-alpha " + format_exact(scale * double(rank)));
    int64_t first = 0, block = 0;
    for (const Site& part : parts) {
      Tensor up = pair.up.narrow(0, first, part.rows), down = pair.down;
      first += part.rows;
      const bool adapted =
          std::any_of(mine.begin(), mine.end(), [&](const Site& s) { return s.name == part.name; });
      if (!adapted) {
        if (up.count_nonzero().item<int64_t>() > 0)
          throw unlike(
              "changes the " + part.target + " part of " + module + " too, which the run does not adapt",
              "--targets with " + part.target);
        continue;
      }
      if (apart) {
        down = down.narrow(0, block, rank);
        const Tensor alone = up.narrow(1, block, rank);
        if (up.count_nonzero().item<int64_t>() != alone.count_nonzero().item<int64_t>())
          throw unlike(
              "is one LoRA of rank " + std::to_string(found) + " over all parts of " + module,
              "--rank " + std::to_string(found) + " --lora-alpha " + format_exact(scale * double(found)));
        up = alone;
        block += rank;
      }
      start_[part.name + "/A"] = down;
      start_[part.name + "/B"] = up;
    }
  }

  void take_head() {
    const bool inside = !head_.empty();
    const std::string beside = folder_ + "/head.safetensors";
    if (!inside && std::filesystem::exists(beside)) {
      const SafeTensors file(beside);
      for (const std::string& name : file.names()) {
        const bool dense = name.starts_with("dense.");
        head_[(dense ? "head/dense." : "head.") + name.substr(dense ? 6 : 0)] =
            file.get(name, file.shape(name)).to(model_.options());
      }
    }
    if (head_.empty()) return;
    const std::optional<HeadShape> shape = model_.head();
    if (!shape)
      throw bad(
          "holds a head, and this run has none, since the model itself scores next tokens; give an adapter "
          "without modules_to_save");
    if (inside && !head_.contains("head.bias") && head_.contains("head.weight"))
      head_["head.bias"] = torch::zeros({head_["head.weight"].size(0)}, model_.options());
    std::map<std::string, std::vector<int64_t>> wanted = {
        {"head.weight", {shape->classes, shape->dense > 0 ? shape->dense : shape->inputs}},
        {"head.bias", {shape->classes}}};
    if (shape->dense > 0) {
      wanted["head/dense.weight"] = {shape->dense, shape->inputs};
      wanted["head/dense.bias"] = {shape->dense};
    }
    if (head_.contains("head/dense.weight") != (shape->dense > 0))
      throw unlike(std::string("has a head ") + (shape->dense > 0 ? "without" : "with") +
                       " a dense layer before its scores, unlike the run",
                   shape->dense > 0
                       ? "--classifier linear, or an adapter whose modules_to_save holds that layer too"
                       : "--classifier dense");
    for (const auto& [name, sizes] : wanted) {
      if (!head_.contains(name)) throw bad("has a head without its " + name + kAnotherFolder);
      if (head_[name].sizes() != torch::IntArrayRef(sizes))
        throw unlike("has a head whose " + name + " is " + text(head_[name]) + ", and the run's is " +
                         text(torch::empty(sizes)),
                     "an adapter that was trained with as many classes as " + options_.data + " has");
    }
    if (head_.size() != wanted.size())
      throw bad("has a head of other layers than the run's" + std::string(kAnotherFolder));
    if (pooled_) check_pooling();
    for (const auto& [name, sizes] : wanted) {
      std::string slice = name;
      slice[slice.rfind('.')] = '/';
      start_[slice] = head_[name];
    }
  }

  // What transformers' model reads with such a head.
  void check_pooling() const {
    const std::string reads = config_.causal ? "last" : config_.dense_activation.empty() ? "pooler" : "cls";
    const std::string own = chosen_pooling(options_, config_);
    if (own != reads)
      throw unlike("has a head that reads '" + reads + "' in transformers, and the run's reads '" + own + "'",
                   "--pooling " + reads);
  }

  const Options& options_;
  const ModelConfig& config_;
  const Model& model_;
  const std::string folder_;
  std::map<std::string, std::vector<Site>> modules_;  // that can be adapted, with their parts in their order
  nlohmann::json settings_;
  std::map<std::string, SavedPair> pairs_;    // by module
  std::map<std::string, std::string> names_;  // of modules in the folder
  std::map<std::string, Tensor> head_;        // by slice, a dot before weight and bias
  bool pooled_ = false;                       // that head reads a state of each example
  Problem::Start start_;
};

}  // namespace

std::vector<std::string> start_adapter_files(const std::string& directory) {
  return {directory + "/adapter_config.json", directory + "/adapter_model.safetensors"};
}

Problem::Start read_start_adapter(const Options& options, const ModelConfig& config, const Model& model) {
  try {
    return StartAdapter(options, config, model).start();
  } catch (const nlohmann::json::exception& error) {
    throw InputError(start_adapter_files(options.start_adapter)[0] + " cannot be understood (" +
                     error.what() + ")" + kAnotherFolder);
  } catch (const std::regex_error& error) {
    throw InputError(start_adapter_files(options.start_adapter)[0] + " has an alpha_pattern that is none (" +
                     error.what() + ")" + kAnotherFolder);
  }
}

}  // namespace pf2lora
