// A transformer against the numbers of a golden file: logits and gradients, packed in several ways.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "adapters/random_tensors.h"
#include "model/golden.h"
#include "model/small_transformer.h"

namespace pf2lora {

inline const std::map<std::string, Pooling> kPoolings = {
    {"cls", Pooling::cls}, {"pooler", Pooling::pooler}, {"mean", Pooling::mean}, {"last", Pooling::last}};

struct GoldenModel {
  std::string directory;
  std::vector<std::string> targets;
  Readout readout;         // the classes are the file's
  std::string group = "";  // of the file that holds adapters and head, with its slash
  torch::ScalarType type = torch::kFloat64;
  bool native = false;
  bool top = false;  // only the last layer has sites
};

class Comparison {
 public:
  Comparison(const Golden& golden, const GoldenModel& of)
      : golden_(golden),
        group_(of.group),
        task_(of.readout.task),
        config_(golden.config(of.directory)),
        model_(make(golden, of, config_)),
        level_(golden.level(model_->sites(), of.group)),
        prompt_({}, 0, 1, {"", ""}, std::nullopt, prompts_of("prompt", 0)),
        prefix_({}, 0, 1, {"", ""}, std::nullopt, prompts_of("prefix/0/key", config_.layers)) {}

  const Model& model() const { return *model_; }
  Batch batch(const std::vector<int64_t>& clients, const std::vector<std::vector<int64_t>>& rows) const {
    return golden_.batch(clients, rows, task_);
  }

  // The largest difference from the scores of that name over all examples, packed `examples` to a client and
  // `clients` to a group.
  double logit_difference(const std::string& kind, const std::string& name, int64_t clients,
                          int64_t examples) const {
    const torch::Tensor expected = golden_.tensor(name);
    std::vector<torch::Tensor> logits;
    for (int64_t next = 0; next < golden_.size();) {
      std::vector<std::vector<int64_t>> rows;
      std::vector<int64_t> numbers;
      while (int64_t(rows.size()) < clients && next < golden_.size()) {
        numbers.push_back(int64_t(rows.size()));
        rows.emplace_back(size_t(std::min(examples, golden_.size() - next)));
        std::iota(rows.back().begin(), rows.back().end(), next);
        next += int64_t(rows.back().size());
      }
      logits.push_back(model_->output(batch(numbers, rows), adapters(int64_t(rows.size()), kind)).values);
    }
    const torch::Tensor found = torch::cat(logits);
    EXPECT_EQ(found.sizes(), expected.sizes());
    return found.sizes() == expected.sizes() ? largest_difference(found, expected) : INFINITY;
  }

  // The largest relative error of the mean loss of gradient/rows, or of a slice of its gradient, alone or as
  // the last of several clients. A slice that is nothing but rounding, as of a span's bias, which moves all
  // tokens alike, is taken relative to a part of the whole row.
  double gradient_error(const std::string& kind, const std::string& name, int64_t clients) const {
    std::vector<std::vector<int64_t>> by_client(size_t(clients), std::vector<int64_t>{3, 1, 2});
    by_client.back() = golden_.file().read<int64_t>("gradient/rows");
    std::vector<int64_t> numbers(size_t(clients), 0);
    const Gradient gradient = model_->gradient(batch(numbers, by_client), adapters(clients, kind));
    const double loss = golden_.file().attribute<double>(name, "loss");
    double worst = std::abs(gradient.loss[clients - 1].item<double>() - loss) / loss;

    const std::vector<const Level*> levels = levels_of(kind);
    const std::vector<torch::Tensor> found = split(levels, gradient.rows);
    for (size_t i = 0; i < levels.size(); ++i) {
      const torch::Tensor row = found[i].narrow(0, clients - 1, 1);
      EXPECT_TRUE(row.isfinite().all().item<bool>());
      const torch::Tensor expected = golden_.row(*levels[i], name + "/").unsqueeze(0).to(torch::kFloat64);
      const double rounding = row.scalar_type() == torch::kFloat64 ? DBL_EPSILON : FLT_EPSILON;
      const double least = std::cbrt(rounding) * expected.norm().item<double>();
      for (const Slice& slice : levels[i]->layout().slices()) {
        const torch::Tensor truth = view(expected, slice), off = view(row, slice) - truth;
        worst = std::max(worst, (off.norm() / truth.norm().clamp_min(least)).item<double>());
      }
    }
    return worst;
  }

 private:
  static std::unique_ptr<Model> make(const Golden& golden, const GoldenModel& of, const ModelConfig& config) {
    Readout readout = of.readout;
    const std::string head = of.group + "head/weight";
    readout.classes = golden.file().exists(head) ? golden.file().shape(head)[0] : 0;
    std::vector<int64_t> layers(size_t(config.layers));
    std::iota(layers.begin(), layers.end(), 0);
    if (of.top) layers = {config.layers - 1};
    return any_transformer(
        of.native,
        read_transformer_weights(
            of.directory, config,
            {.pooler = readout.pooling == Pooling::pooler, .scores = readout.task == Task::generation},
            torch::dtype(of.type)),
        transformer_sites(config, of.targets, layers), readout, /*prefix_cache_bytes=*/1 << 20);
  }
  // The shape of a prompt of the file; nullopt where it holds none.
  std::optional<PromptShape> prompts_of(const std::string& name, int64_t layers) const {
    const std::string vectors = group_ + "adapters/" + name;
    if (!golden_.file().exists(vectors)) return std::nullopt;
    const Shape shape = golden_.file().shape(vectors);
    return PromptShape{shape[0], shape[1], layers};
  }
  std::vector<const Level*> levels_of(const std::string& kind) const {
    return kind == "prompted" ? std::vector{&level_, &prompt_, &prefix_} : std::vector{&level_};
  }
  // frozen: without pairs; prompted: with prompts too.
  AdapterSet adapters(int64_t clients, const std::string& kind) const {
    const std::vector<const Level*> levels = levels_of(kind);
    std::vector<torch::Tensor> rows;
    for (const Level* level : levels) rows.push_back(golden_.row(*level, group_).repeat({clients, 1}));
    AdapterSet set = compose(levels, rows);
    if (kind == "frozen")
      for (LowRankPair& pair : set.pairs) pair = {};
    return set;
  }

  const Golden& golden_;
  std::string group_;
  Task task_;
  ModelConfig config_;
  std::unique_ptr<Model> model_;
  Level level_, prompt_, prefix_;
};

}  // namespace pf2lora
