// Which rank trains which group, and where each client's row lives. Every rank computes the same tables; a
// group never depends on the number of ranks.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace pf2lora {

struct Group {
  std::vector<int64_t> clients;  // at most lockstep, ascending
  double work = 0;
  int rank = 0;
};

// A client's row that goes from one rank to another.
struct Move {
  int64_t client;
  int from, to;
};

// Cuts a sorted cohort into groups of `lockstep` clients.
std::vector<Group> make_groups(const std::vector<int64_t>& cohort, int64_t lockstep,
                               const std::function<double(int64_t)>& work);

class Placement {
 public:
  // A client's row lives on rank client mod ranks until it is trained elsewhere.
  Placement(int64_t clients, int ranks);

  int64_t clients() const { return int64_t(owners_.size()); }
  int owner(int64_t client) const { return owners_[size_t(client)]; }
  // Whether the client has trained, so that a row of it exists; start values are made where they are needed.
  bool has_row(int64_t client) const { return trained_[size_t(client)] != 0; }
  void set_has_row(int64_t client) { trained_[size_t(client)] = 1; }

  // Gives every group a rank, longest first to the rank with the least work; among equals to the one that
  // holds most of its clients. Returns the rows that have to move, and makes the new ranks their owners; a
  // group that trains has rows from then on.
  enum class Use { trains, reads };
  std::vector<Move> place(std::vector<Group>& groups, Use use);

 private:
  int ranks_;
  std::vector<int> owners_;
  std::vector<char> trained_;
};

}  // namespace pf2lora
