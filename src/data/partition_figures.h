// How much the clients of a partition differ, in numbers. Labels are those that a client reads.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "data/partition.h"

namespace pf2lora {

// Of one client; label figures are those of its training rows.
struct ClientFigures {
  int64_t train = 0, validation = 0, test = 0;  // examples
  int64_t classes = 0;                          // that it holds
  double label_entropy = 0;                     // nats
  double majority = 0;                          // share of the most frequent class
  bool permuted = false;                        // reads its labels permuted (--label-conflict)
};

struct PartitionFigures {
  std::vector<ClientFigures> clients;
  // Mean over clients of the Jensen-Shannon distance (label_distance) between a client's training labels and
  // those of all clients together.
  double mean_label_distance = 0;
};
PartitionFigures partition_figures(const Partition& partition, int64_t classes);

// Entropy of the proportions of `counts` in nats; 0 where all counts are 0.
double label_entropy(std::span<const int64_t> counts);

// Jensen-Shannon distance between the proportions of two counts: the root of the divergence in bits (Endres,
// Schindelin: A new metric for probability distributions. 2003), from 0 (alike) to 1 (nothing in common). NaN
// where one is all 0.
double label_distance(std::span<const int64_t> a, std::span<const int64_t> b);

}  // namespace pf2lora
