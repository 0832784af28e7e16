// What a federated method is: layouts of flat rows (common, of a client), their start values, local steps on
// the rows of a group, what is contributed to the average, and the adapters that a client would deploy.
// Evaluation, spectra, export and checkpoints use this interface and nothing else.
#pragma once
#include <torch/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapters/adapter_set.h"
#include "adapters/level.h"
#include "adapters/parameter_layout.h"
#include "core/exact_sum.h"
#include "core/options.h"
#include "core/random.h"
#include "model/problem.h"

namespace pf2lora {

// The rows of G clients that train in lockstep.
struct ClientGroup {
  std::vector<int64_t> clients;  // [G]
  torch::Tensor common;          // [G, common layout]: each client's copy of the common row
  torch::Tensor own;             // [G, client layout]: what stays with the client
};

// Which keyed batches local steps draw, and where a schedule of rates stands.
struct LocalSchedule {
  Purpose purpose = Purpose::batch;
  int64_t round = 1;       // from 1
  int64_t first_step = 0;  // within the round
  int64_t steps = 0;
};

struct LocalReport {
  std::vector<double> loss;          // [G] mean over the local steps of the loss before each step
  int64_t gradient_evaluations = 0;  // of each client; a tangent counts as one
};

// What a client's part in a round costs, in numbers of the rows' type.
struct ClientCost {
  int64_t sent = 0;
  int64_t received = 0;
  int64_t trained = 0;  // parameters that its local steps move
  int64_t kept = 0;     // what stays with it between rounds, optimiser state included
  int64_t rank = 0;     // of what it deploys: over all levels, or full where a dense update is part of it
};

// The mean loss of each client over its local steps.
class LossMeter {
 public:
  explicit LossMeter(size_t clients) : sum_(clients, 0.0) {}
  // Adds losses [G]. Throws NumericalError naming client, round and step where one is not finite.
  void add(const torch::Tensor& loss, const std::vector<int64_t>& clients, int64_t round, int64_t step,
           int64_t gradient_evaluations = 1);
  LocalReport report(int64_t steps) const;

 private:
  std::vector<double> sum_;
  int64_t gradient_evaluations_ = 0;
};

// What a deployed model answers on batches of the group's clients.
struct Predictor {
  std::function<Losses(const Batch&)> loss;
  std::function<torch::Tensor(const Batch&)> scores;  // Output::values
  // Model::generate; empty where a method does not generate.
  std::function<std::vector<std::vector<int32_t>>(const Batch&, const GenerationRules&)> texts;
  Losses operator()(const Batch& batch) const { return loss(batch); }
};
// Of the model with the adapters that each batch gets.
Predictor predictor_of(const Model& model, std::function<AdapterSet(const Batch&)> adapters);

// A level and where its parameters stand, for spectra and export.
struct LevelRows {
  const Level* level;
  torch::Tensor rows;  // [G, level->size()]
};

// How a client's own level acts beside the common one.
enum class Combination { adds, replaces, gated };

class Algorithm {
 public:
  Algorithm(const Options& options, const Problem& problem) : options_(options), problem_(problem) {}
  virtual ~Algorithm() = default;

  const ParameterLayout& common_layout() const { return common_layout_; }
  const ParameterLayout& client_layout() const { return client_layout_; }

  // What rows of zeros begin as: the start values, but for slices that the problem's start names.
  void start_common(torch::Tensor row) const;                  // [common layout]
  void start_client(int64_t client, torch::Tensor row) const;  // [client layout]
  // Start values, written into rows of zeros.
  virtual void initial_common(torch::Tensor row) const = 0;                  // [common layout]
  virtual void initial_client(int64_t client, torch::Tensor row) const = 0;  // [client layout]

  // Trains the group's rows in place. Throws NumericalError naming client, round and step.
  virtual LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const = 0;
  // What a client does to fit a deployed model to itself, all steps at once, on rows that are thrown away; as
  // a rule local steps.
  virtual LocalReport adapt(ClientGroup& group, const LocalSchedule& schedule) const {
    return local_steps(group, schedule);
  }

  // The blocks of the common row that clients send in a round (from 1) and receive back averaged.
  virtual std::vector<Block> sent_blocks(int64_t round) const;
  // Of the sum over clients that a round forms; 0: nothing is sent. As a rule the sent blocks, weighted, and
  // the weights.
  virtual int64_t sum_size(int64_t round) const;
  virtual void contribute(const ClientGroup& group, int64_t round, ExactSum& sum) const;
  virtual void aggregate(torch::Tensor common, int64_t round, const ExactSum& sum) const;
  // Of client g of the group.
  virtual ClientCost cost(const ClientGroup& group, size_t g, int64_t round) const;

  // Adapters of the common part alone, for common rows [G, common layout]; nullopt where there is none.
  virtual std::optional<AdapterSet> common_model(const torch::Tensor& common) const = 0;
  // What a client deploys: its copy of the common row with its own part.
  virtual AdapterSet personal_model(const ClientGroup& group) const = 0;
  // Whether the two differ.
  virtual bool is_personal() const = 0;
  // Both as evaluations ask them; a method that is more than adapters in the model defines them anew.
  virtual std::optional<Predictor> common_predictor(const torch::Tensor& common) const;
  virtual Predictor personal_predictor(const ClientGroup& group) const;
  // Whether both have texts, where the model has.
  virtual bool generates() const { return true; }

  // Whether what a round does depends on how many there will be, so that a run may not go on with more.
  virtual bool rounds_matter() const { return false; }

  // The levels that spectra and export show; where a level has no pairs its rank is 0.
  virtual LevelRows common_level(const ClientGroup& group) const = 0;
  virtual LevelRows client_level(const ClientGroup& group) const = 0;
  virtual Combination combination() const { return Combination::adds; }
  // What the common part adds to the frozen matrices beside its pairs, for common rows [G, common layout]:
  // one a site, [out, in], or empty.
  virtual std::vector<torch::Tensor> base_delta(const torch::Tensor&) const { return {}; }

 protected:
  // The weight of a client in the average.
  virtual double weight(int64_t) const { return 1; }
  // Parameters that the local steps of a round move.
  virtual int64_t trained_size(int64_t round) const = 0;
  // The rank of what client g of the group adds to the frozen matrices.
  virtual int64_t deployed_rank(const ClientGroup& group, size_t g) const;

  const Options options_;
  const Problem& problem_;
  ParameterLayout common_layout_, client_layout_;
};

}  // namespace pf2lora
