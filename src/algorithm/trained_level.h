// A level of adapters with its owners and its optimiser: where its parameters and moments stand in the rows
// of a group. Methods are put together from such levels.
#pragma once
#include <bitset>

#include "algorithm/algorithm.h"
#include "algorithm/row_optimizer.h"

namespace pf2lora {

enum class Owner { common, client };

// A block of a level's row and who holds it; what is not trained keeps its start value.
struct Share {
  Block block;
  Owner owner = Owner::common;
  bool trained = true;
};

// Which of a level's shares, by their index.
using ShareSet = std::bitset<8>;
inline ShareSet all_shares() {
  return ShareSet().set();
}

class TrainedLevel {
 public:
  // Appends the parameters, and the optimiser state that --optimizer-state keeps across rounds, to the
  // layouts of the owners (with `average` and a common owner: both are averaged; otherwise the state is the
  // client's). `shares` cover the level's row in order, without gaps.
  TrainedLevel(Level level, std::vector<Share> shares, Rule rule, const Options& options,
               ParameterLayout& common, ParameterLayout& client);
  // One owner of the whole level.
  TrainedLevel(Level level, Owner owner, Rule rule, const Options& options, ParameterLayout& common,
               ParameterLayout& client);

  const Level& level() const { return level_; }
  bool empty() const { return level_.size() == 0; }
  // Whether this owner holds a share of it.
  bool has(Owner owner) const;

  // The level's row [G, level().size()]: a view where one owner holds all of it, a copy otherwise.
  torch::Tensor rows(const ClientGroup& group) const;
  torch::Tensor rows(const torch::Tensor& common, const torch::Tensor& own) const;
  // Sets the level's row, of every owner.
  void set_rows(ClientGroup& group, const torch::Tensor& rows) const;

  // Writes the start values of that owner's shares, drawn from `random`, into a row of its layout [P].
  void initialise(Owner owner, torch::Tensor owner_row, KeyedRandom random) const;

  // The optimiser states [G, ...], one a share, for the local steps of a round: views of what is kept, or
  // zeros.
  using States = std::vector<torch::Tensor>;
  States states(const ClientGroup& group) const;
  // One optimiser step in place of those shares along gradient [G, level().size()], clipped to --clip.
  void step(ClientGroup& group, const torch::Tensor& gradient, const States& states, double rate,
            ShareSet which = all_shares()) const;
  // RowOptimizer::response of a block of the level, which stands in one share that is trained, [G].
  torch::Tensor response(const States& states, Block block, double rate) const;

  // The blocks of the common row that hold those shares where they are common and trained, and their averaged
  // state.
  std::vector<Block> common_blocks(ShareSet which = all_shares()) const;
  // Numbers in those shares that are trained.
  int64_t trained_size(ShareSet which = all_shares()) const;

 private:
  enum class StateHome { common, client, nowhere };
  struct Held {
    Share share;
    RowOptimizer optimizer;
    int64_t offset = 0;  // in the owner's row
    StateHome state_home = StateHome::nowhere;
    int64_t state_offset = 0;
  };
  static torch::Tensor held_rows(const Held& held, const torch::Tensor& common, const torch::Tensor& own);

  Level level_;
  double clip_;
  std::vector<Held> held_;
};

// The rule that --optimizer names.
Rule common_rule(const Options& options);

// The head of the problem where --head gives it to that owner.
std::optional<HeadShape> head_of(Owner owner, const Options& options, const Problem& problem);

}  // namespace pf2lora
