#include "simulation/placement.h"

#include <algorithm>
#include <numeric>

namespace pf2lora {

std::vector<Group> make_groups(const std::vector<int64_t>& cohort, int64_t lockstep,
                               const std::function<double(int64_t)>& work) {
  std::vector<Group> groups;
  for (size_t begin = 0; begin < cohort.size(); begin += size_t(lockstep)) {
    const size_t end = std::min(cohort.size(), begin + size_t(lockstep));
    Group group{{cohort.begin() + int64_t(begin), cohort.begin() + int64_t(end)}};
    for (int64_t client : group.clients) group.work += work(client);
    groups.push_back(std::move(group));
  }
  return groups;
}

Placement::Placement(int64_t clients, int ranks)
    : ranks_(ranks), owners_(size_t(clients)), trained_(size_t(clients)) {
  for (int64_t client = 0; client < clients; ++client) owners_[size_t(client)] = int(client % ranks);
}

std::vector<Move> Placement::place(std::vector<Group>& groups, Use use) {
  std::vector<size_t> order(groups.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return groups[a].work > groups[b].work; });

  std::vector<double> load(size_t(ranks_), 0.0);
  for (size_t i : order) {
    Group& group = groups[i];
    const double least = *std::min_element(load.begin(), load.end());
    const auto held = [&](int rank) {
      return std::count_if(group.clients.begin(), group.clients.end(),
                           [&](int64_t client) { return owner(client) == rank; });
    };
    group.rank = -1;
    for (int rank = 0; rank < ranks_; ++rank)
      if (load[size_t(rank)] == least && (group.rank < 0 || held(rank) > held(group.rank))) group.rank = rank;
    load[size_t(group.rank)] += group.work;
  }

  std::vector<Move> moves;
  for (const Group& group : groups)
    for (int64_t client : group.clients) {
      if (has_row(client) && owner(client) != group.rank)
        moves.push_back({client, owner(client), group.rank});
      owners_[size_t(client)] = group.rank;
      if (use == Use::trains) set_has_row(client);
    }
  return moves;
}

}  // namespace pf2lora
