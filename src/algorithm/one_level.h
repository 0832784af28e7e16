// The shape that the one-level methods share: each client trains one adapter (and a head) by
//   x_k <- Opt(x_k, grad f_k(x_k; batch of slot 0)).
// The methods differ in who owns the adapter and in the weights of the average.
#pragma once
#include "algorithm/adapter_part.h"

namespace pf2lora {

class OneLevel : public Algorithm {
 public:
  // `owner` of the low-rank pairs; the head follows --head, but is the client's where the pairs are.
  OneLevel(const Options& options, const Problem& problem, Owner owner);

  void initial_common(torch::Tensor row) const override;
  void initial_client(int64_t client, torch::Tensor row) const override;
  LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const override;
  std::optional<AdapterSet> common_model(const torch::Tensor& common) const override;
  AdapterSet personal_model(const ClientGroup& group) const override;
  bool is_personal() const override { return !own_.empty(); }
  LevelRows common_level(const ClientGroup& group) const override;
  LevelRows client_level(const ClientGroup& group) const override;

 private:
  AdapterPart common_, own_;
};

}  // namespace pf2lora
