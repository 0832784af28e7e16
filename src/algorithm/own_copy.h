// A client's own copy of what a common level holds: until the client begins to train it, the copy is the
// common level, so that clients that join late, or never train, have what is common at the time.
#pragma once
#include "algorithm/trained_level.h"

namespace pf2lora {

class OwnCopy {
 public:
  // `own` begins as the leading part that the two levels have alike: the pairs, and the head where both have
  // one. Appends the mark of clients that have begun, started [1], to the layout of a client. The levels must
  // outlive this.
  OwnCopy(const TrainedLevel& common, const TrainedLevel& own, ParameterLayout& client);

  // The own level's rows [G, size], whether begun or not: a view where all clients have begun and one owner
  // holds the level.
  torch::Tensor rows(const ClientGroup& group) const;
  // [G] bool: which clients have begun.
  torch::Tensor begun(const ClientGroup& group) const;
  // From here on the clients' copies are their own.
  void begin(ClientGroup& group) const;

 private:
  const TrainedLevel& common_;
  const TrainedLevel& own_;
  int64_t mark_;  // offset in a client's row
};

}  // namespace pf2lora
