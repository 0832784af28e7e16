// Ranks that differ among clients: a client of rank r_k uses the first r_k rows of A and columns of B.
#pragma once
#include "algorithm/one_level.h"

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

// Numbers in the pairs and head of a client of that rank.
int64_t size_at_rank(const Level& level, int64_t rank);

// One common adapter of which each client trains and deploys the first parts.
class MixedRank : public OneLevel {
 public:
  MixedRank(const Options& options, const Problem& problem);

  AdapterSet personal_model(const ClientGroup& group) const override;
  bool is_personal() const override { return true; }
  std::optional<AdapterSet> common_model(const torch::Tensor& common) const override;
  // The truncated pairs with the head, whichever level it belongs to.
  LevelRows client_level(const ClientGroup& group) const override;
  Combination combination() const override { return Combination::replaces; }
  ClientCost cost(const ClientGroup& group, size_t g, int64_t round) const override;

 protected:
  virtual torch::Tensor ranks(const ClientGroup& group) const = 0;  // [G], of the rows' type
  int64_t deployed_rank(const ClientGroup& group, size_t g) const override {
    return ranks(group)[int64_t(g)].item<int64_t>();
  }
  torch::Tensor mask(const ClientGroup& group) const { return rank_mask(common_.level(), ranks(group)); }
  // The common level's rows with zeros beyond each client's rank.
  torch::Tensor truncated(const ClientGroup& group) const { return common_.rows(group) * mask(group); }

 private:
  Level deployed_;
};

}  // namespace pf2lora
