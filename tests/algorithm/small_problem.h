// A problem for tests of methods: a small random encoder, and clients that hold examples of random tokens.
#pragma once
#include <torch/types.h>

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "algorithm/algorithm.h"
#include "algorithm/bare_problem.h"
#include "data/sampler.h"
#include "model/small_transformer.h"

namespace pf2lora {

class SmallProblem final : public BareProblem {
 public:
  // Client k holds k + 3 examples, and draws batches of `batch_size` from them.
  explicit SmallProblem(SmallTransformer small = {}, torch::ScalarType type = torch::kFloat64,
                        int64_t clients = 5, int64_t batch_size = 4)
      : model_(convert(random_weights(small.config, small.seed), type),
               transformer_sites(small.config, small.targets, small.layers), small.readout(),
               small.prefix_cache_bytes),
        batch_size_(batch_size) {
    for (int64_t c = 0; c < small.classes; ++c) class_names_.push_back(std::to_string(c));
    RandomTensors random(small.seed + 100);
    for (int64_t k = 0; k < clients; ++k) {
      ClientExamples client;
      for (int64_t i = 0; i < k + 3; ++i) {
        client.train.push_back(int64_t(labels_.size()));
        for (int64_t t = 0; t <= random.below(small.config.positions - 1); ++t)
          tokens_.push_back(int32_t(random.below(small.config.vocabulary)));
        offsets_.push_back(int64_t(tokens_.size()));
        labels_.push_back(int32_t(random.below(small.classes)));
      }
      partition_.clients.push_back(client);
    }
  }

  const Model& model() const override { return model_; }
  Batch training_batch(const std::vector<int64_t>& clients, Purpose purpose, int64_t round, int64_t step,
                       int64_t slot) const override {
    std::vector<std::vector<int64_t>> rows;
    for (int64_t client : clients)
      rows.push_back(draw_batch(1, purpose, client, round, step, slot,
                                partition_.clients[size_t(client)].train, batch_size_));
    return pack(clients, rows, {tokens_, offsets_, labels_});
  }
  int64_t train_examples(int64_t client) const override {
    return int64_t(partition_.clients[size_t(client)].train.size());
  }

 private:
  static TransformerWeights convert(TransformerWeights weights, torch::ScalarType type) {
    const auto change = [&](auto& part) {
      part.weight = part.weight.to(type);
      part.bias = part.bias.to(type);
    };
    weights.words = weights.words.to(type);
    weights.positions = weights.positions.to(type);
    change(weights.embedding_norm);
    change(weights.pooler);
    for (TransformerLayer& layer : weights.layers) {
      for (auto* linear : {&layer.query, &layer.key, &layer.value, &layer.attention_output,
                           &layer.intermediate, &layer.output})
        change(*linear);
      change(layer.attention_norm);
      change(layer.output_norm);
    }
    return weights;
  }

  ReferenceTransformer model_;
  int64_t batch_size_;
  std::vector<int32_t> tokens_, labels_;
  std::vector<int64_t> offsets_ = {0};
};

inline Options small_options() {
  Options options;
  options.rank = 3;
  options.client_rank = 2;
  options.learning_rate = 1e-2;
  options.client_learning_rate = 0.2;
  options.rounds = 4;
  options.local_steps = 5;
  return options;
}

// A group as the simulation makes it at the start.
inline ClientGroup start_group(const Algorithm& algorithm, const Problem& problem,
                               const std::vector<int64_t>& clients) {
  const auto options = problem.model().options();
  torch::Tensor common = torch::zeros({algorithm.common_layout().size()}, options);
  algorithm.initial_common(common);
  ClientGroup group{clients, common.repeat({int64_t(clients.size()), 1}),
                    torch::zeros({int64_t(clients.size()), algorithm.client_layout().size()}, options)};
  for (size_t g = 0; g < clients.size(); ++g) algorithm.initial_client(clients[g], group.own[int64_t(g)]);
  return group;
}

// What the common row becomes after a round of these groups, of which the first holds what stays.
inline torch::Tensor average(const Algorithm& algorithm, const std::vector<ClientGroup>& groups,
                             int64_t round = 1) {
  ExactSum sum(size_t(algorithm.sum_size(round)));
  for (const ClientGroup& group : groups) algorithm.contribute(group, round, sum);
  torch::Tensor common = groups.front().common[0].clone();
  algorithm.aggregate(common, round, sum);
  return common;
}

}  // namespace pf2lora
