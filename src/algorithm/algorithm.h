// What a federated method is: layouts of flat rows (common, of a client, sent), their start values, local
// steps on the rows of a group, what is contributed to the average, and the adapters that a client would
// deploy. Evaluation, spectra, export and checkpoints use this interface and nothing else.
#pragma once
#include <torch/types.h>

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

// A level and where its parameters stand, for spectra and export.
struct LevelRows {
  const Level* level;
  torch::Tensor rows;  // [G, level->size()]
};

class Algorithm {
 public:
  Algorithm(const Options& options, const Problem& problem) : options_(options), problem_(problem) {}
  virtual ~Algorithm() = default;

  const ParameterLayout& common_layout() const { return common_layout_; }
  const ParameterLayout& client_layout() const { return client_layout_; }
  // What a client sends: the common row and its weight, unless a method says otherwise; empty: nothing.
  const ParameterLayout& sent_layout() const { return sent_layout_; }

  virtual void initial_common(torch::Tensor row) const = 0;                  // [common layout]
  virtual void initial_client(int64_t client, torch::Tensor row) const = 0;  // [client layout]

  // Trains the group's rows in place. Throws NumericalError naming client, round and step.
  virtual LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const = 0;
  // Adds what the group sends; the defaults are a weighted average of the common rows.
  virtual void contribute(const ClientGroup& group, ExactSum& sum) const;
  virtual void aggregate(torch::Tensor common, const ExactSum& sum) const;

  // Adapters of the common part alone, for common rows [G, common layout]; nullopt where there is none.
  virtual std::optional<AdapterSet> common_model(const torch::Tensor& common) const = 0;
  // What a client deploys: its copy of the common row with its own part.
  virtual AdapterSet personal_model(const ClientGroup& group) const = 0;
  // Whether the two differ.
  virtual bool is_personal() const = 0;

  // The levels that spectra and export show; where a level has no pairs its rank is 0.
  virtual LevelRows common_level(const ClientGroup& group) const = 0;
  virtual LevelRows client_level(const ClientGroup& group) const = 0;

 protected:
  // The weight of a client in the average.
  virtual double weight(int64_t) const { return 1; }
  // Makes the whole common row, and a weight, what a client sends; nothing where there is no common row.
  void send_common_row();

  const Options options_;
  const Problem& problem_;
  ParameterLayout common_layout_, client_layout_, sent_layout_;
};

}  // namespace pf2lora
