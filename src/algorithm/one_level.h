// The shape that the one-level methods share: each client trains one adapter (and a head) by
//   x_k <- Opt(x_k, grad f_k(x_k; batch of slot 0)).
// The methods differ in who owns which part of it, in what moves in a round, in the direction of a step, and
// in the weights of the average.
#pragma once
#include <functional>

#include "algorithm/trained_level.h"

namespace pf2lora {

class OneLevel : public Algorithm {
 public:
  using MakeShares = std::function<std::vector<Share>(const Level& level)>;

  // `owner` of the low-rank pairs; the head follows --head, but is the client's where the pairs are.
  OneLevel(const Options& options, const Problem& problem, Owner owner);

  void initial_common(torch::Tensor row) const override;
  void initial_client(int64_t client, torch::Tensor row) const override;
  LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const override;
  std::vector<Block> sent_blocks(int64_t round) const override;
  std::optional<AdapterSet> common_model(const torch::Tensor& common) const override;
  AdapterSet personal_model(const ClientGroup& group) const override;
  bool is_personal() const override { return common_.has(Owner::client) || own_.has(Owner::client); }
  LevelRows common_level(const ClientGroup& group) const override;
  LevelRows client_level(const ClientGroup& group) const override;

 protected:
  // The same, the row of the pairs' level being shared out further; `owner` is who deploys it.
  OneLevel(const Options& options, const Problem& problem, Owner owner, const MakeShares& shares);

  // The shares of the pairs' level that move in a round (from 1).
  virtual ShareSet moving(int64_t) const { return all_shares(); }

  // The direction of a local step, at the group's rows.
  struct Direction {
    torch::Tensor loss;         // [G] before the step
    torch::Tensor common, own;  // [G, size] along the common and the client's level
    int64_t gradient_evaluations = 1;
  };
  virtual Direction direction(const ClientGroup& group, const LocalSchedule& schedule, int64_t step) const;
  // The gradient of a batch at the group's rows.
  Direction gradient(const Batch& batch, const ClientGroup& group) const;
  Batch batch(const ClientGroup& group, const LocalSchedule& schedule, int64_t step, int64_t slot) const {
    return problem_.training_batch(group.clients, schedule.purpose, schedule.round, step, slot);
  }

  int64_t trained_size(int64_t round) const override;

  Owner owner_;  // of the pairs
  TrainedLevel common_, own_;

 private:
  ShareSet moving_of(Owner level, int64_t round) const {
    return level == owner_ ? moving(round) : all_shares();
  }
};

}  // namespace pf2lora
