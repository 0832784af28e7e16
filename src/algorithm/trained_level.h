// A level of adapters with its owner and its optimiser: where its parameters and moments stand in the rows of
// a group. Methods are put together from such parts.
#pragma once
#include "algorithm/algorithm.h"
#include "algorithm/row_optimizer.h"

namespace pf2lora {

enum class Owner { common, client };

class AdapterPart {
 public:
  // Appends the parameters, and the optimiser state that --optimizer-state keeps across rounds, to the layout
  // of the owner (with `average` and a common owner: both are averaged; otherwise the state is the client's).
  AdapterPart(Level level, Owner owner, Rule rule, const Options& options, ParameterLayout& common,
              ParameterLayout& client);

  const Level& level() const { return level_; }
  bool empty() const { return level_.size() == 0; }

  // A view [G, level().size()] of the parameters.
  torch::Tensor rows(const ClientGroup& group) const;
  // The same, from rows of the owner's layout [G, ...].
  torch::Tensor rows(const torch::Tensor& owner_rows) const;

  // Start values in a row of the owner's layout [P]: zeros but for these parameters, drawn from `random`.
  void initialise(torch::Tensor owner_row, KeyedRandom random) const;

  // The optimiser state [G, ...] for the local steps of a round: a view of what is kept, or zeros.
  torch::Tensor state(const ClientGroup& group) const;
  // One optimiser step in place along gradient [G, level().size()].
  void step(ClientGroup& group, const torch::Tensor& gradient, torch::Tensor state, double rate) const;

 private:
  Level level_;
  Owner owner_;
  RowOptimizer optimizer_;
  int64_t offset_ = 0;
  enum class StateHome { common, client, nowhere } state_home_ = StateHome::nowhere;
  int64_t state_offset_ = 0;
};

// The rule that --optimizer names.
Rule common_rule(const Options& options);

// The head of the problem where --head gives it to that owner.
std::optional<HeadShape> head_of(Owner owner, const Options& options, const Problem& problem);

}  // namespace pf2lora
