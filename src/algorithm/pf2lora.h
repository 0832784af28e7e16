// PF2LoRA: two-level low-rank adaptation. Hao et al., Personalized Federated Fine-tuning of LLMs via
// Two-level Low-rank Adaptation, 2025 (arXiv 2503.03920). W_k = W_0 + s B A + s' D_k C_k, and
//   min_x 1/M sum_k f_k(x, y_k*(x)),  y_k*(x) in argmin_y f_k(x, y),  x = {A, B}, y_k = {C_k, D_k}.
// One local step with independent batches pi (slot 1) and xi (slot 0):
//   y+ = y - a grad_y F(x, y; pi)
//   g  = grad_x F(x, y+; xi) - a d/dx <grad_y F(x, y; pi), v>,  v = grad_y F(x, y+; xi)
//   x  = Opt(x, g),  y = y+
// A and B are averaged; C_k and D_k never leave the client. With client rank 0 it is HOMLoRA.
//
// --spectral-penalty lambda (spectral_penalty.h) lets both ranks fall: a client's own pair takes a step of
// the penalty after its local steps, the common pair after each average, with lambda / sqrt(M) for M clients,
// since the noise of an average is smaller by as much (so do Park and Lock weigh joint and individual parts:
// Biometrics 76, 2020). A penalty that spares large singular values would leave with the clients what all of
// them have found. So the common pair comes first: in the first tenth of the rounds it has no penalty, and of
// the own pairs nothing lasts.
#pragma once
#include "algorithm/trained_level.h"

namespace pf2lora {

struct Pf2LoraOptions : OptionSet {
  std::string hypergradient = "exact";
  std::string finite_difference = "one-sided";
  double finite_difference_norm = 0;
  double spectral_penalty = 0;
  double spectral_free = 0.3;

  void visit(OptionVisitor& visitor) override;
};

class Pf2Lora : public Algorithm {
 public:
  Pf2Lora(const Options& options, const Pf2LoraOptions& own, const Problem& problem);
  // The same bilevel problem over other adapters; `client` may be empty.
  Pf2Lora(const Options& options, const Pf2LoraOptions& own, const Problem& problem, Level common,
          Level client);

  void initial_common(torch::Tensor row) const override;
  void initial_client(int64_t client, torch::Tensor row) const override;
  LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const override;
  void aggregate(torch::Tensor common, int64_t round, const ExactSum& sum) const override;
  std::optional<AdapterSet> common_model(const torch::Tensor& common) const override;
  AdapterSet personal_model(const ClientGroup& group) const override;
  bool is_personal() const override { return !client_.empty(); }
  bool rounds_matter() const override { return own_.spectral_penalty > 0; }
  LevelRows common_level(const ClientGroup& group) const override;
  LevelRows client_level(const ClientGroup& group) const override;

  // One local step's direction for x and the lower level's next y, at x [G, Px] and y [G, Py].
  struct Step {
    torch::Tensor loss;            // [G] F(x, y+; xi)
    torch::Tensor hypergradient;   // [G, Px]
    torch::Tensor next_client;     // [G, Py] y+
    int64_t gradient_evaluations;  // a tangent counts as one
  };
  Step bilevel_step(const torch::Tensor& x, const torch::Tensor& y, const Batch& lower, const Batch& upper,
                    double client_rate) const;
  Step joint_step(const torch::Tensor& x, const torch::Tensor& y, const Batch& batch,
                  double client_rate) const;
  // The penalty's step of each client's own pair, in place; `time` is the total rate of its local steps.
  void penalise_clients(const ClientGroup& group, int64_t round, double time) const;

 private:
  int64_t trained_size(int64_t) const override { return common_.trained_size() + client_.trained_size(); }
  AdapterSet adapters(const torch::Tensor& x, const torch::Tensor& y) const;
  struct Rows {
    torch::Tensor x, y;
  };
  Rows rows_of(const AdapterSet& gradient) const;
  // d/dx <grad_y F(x, y; batch), v> by differences of grad_x along v; `at_y` is grad_x F(x, y; batch).
  torch::Tensor difference(const torch::Tensor& x, const torch::Tensor& y, const torch::Tensor& v,
                           const torch::Tensor& at_y, const Batch& batch) const;

  bool common_comes_first(int64_t round) const;
  // The sites' total rates of the common pair in a round, a part of common rows [G, common layout].
  torch::Tensor common_times(const torch::Tensor& common) const;
  void add_common_times(ClientGroup& group, const TrainedLevel::States& states, double rate) const;

  Pf2LoraOptions own_;
  TrainedLevel common_, client_;
  std::optional<Block> common_times_;  // with a penalty on a common pair
};

}  // namespace pf2lora
