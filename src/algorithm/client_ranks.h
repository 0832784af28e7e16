// Ranks that differ among clients: a client of rank r_k uses the first r_k rows of A and columns of B.
#pragma once
#include "algorithm/algorithm.h"

namespace pf2lora {

struct ClientRankOptions : OptionSet {
  int64_t min_rank = 2;
  std::vector<std::string> client_ranks = {};

  void visit(OptionVisitor& visitor) override;
};

// The rank that each client starts with: as --client-ranks lists them (repeated when there are more clients),
// or rising linearly over the clients from --min-rank to --rank: [clients]. Throws OptionError.
std::vector<int64_t> start_ranks(const Options& options, const ClientRankOptions& own);

// Ones where a client of that rank has parameters, zeros elsewhere: [G, level.size()] for ranks [G].
torch::Tensor rank_mask(const Level& level, const torch::Tensor& ranks);

// What a client of lower rank deploys, as a level of its own: its truncated pairs, and the head, which may
// belong to another level.
class DeployedLevel {
 public:
  DeployedLevel(const Model& model, const Level& pairs);
  LevelRows rows(const torch::Tensor& truncated, const torch::Tensor& head_level) const;

 private:
  Level level_;
};

// Numbers in the pairs and head of a client of that rank.
int64_t size_at_rank(const Level& level, int64_t rank);

}  // namespace pf2lora
