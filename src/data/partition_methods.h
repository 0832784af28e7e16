// The partitions. To add one: a file partition_<name>.cpp with its function, declared here, and a row in the
// table of partition.cpp.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/options.h"
#include "core/random.h"
#include "data/apportion.h"
#include "data/partition.h"

namespace pf2lora {

// Stages of a partition: they keep its keyed draws apart.
enum class PartitionStage : int64_t {
  train_rows = 1,
  validation_rows = 2,
  test_rows = 3,
  proportions = 4,
  priority = 5,
  pool = 6,
  shards = 7,
  sizes = 8,
  turns = 9,
  conflicting_clients = 10,
  label_map = 11,
};

// Random numbers of one stage; `client`, `round` and `slot` as the stage uses them.
KeyedRandom partition_random(const Options& options, PartitionStage stage, int64_t client = 0,
                             int64_t round = 0, int64_t slot = 0);

using RowsByClass = std::vector<std::vector<int64_t>>;  // [classes], each in a keyed random order
std::vector<int64_t> sizes(const RowsByClass& rows);    // [classes]

// What a partition has to work with. The options were checked against the totals before.
struct PartitionProblem {
  const Options& options;
  const Examples& examples;
  int64_t clients;
  int64_t classes;
  RowsByClass train;
  RowsByClass validation;
  RowsByClass test;
  std::vector<int64_t> train_sizes;  // [classes] rows of each class
  std::vector<int64_t> test_sizes;
  std::vector<int64_t> usable;    // [classes] training rows that may be given with --examples-per-client
  std::vector<int64_t> priority;  // [clients] a keyed random order: who gets the odd example
  std::vector<std::string> notes;
};

// Training rows a client; its test and validation rows only where they are not simply drawn in the same
// proportions from what is there for all.
struct PartitionDraw {
  std::vector<std::vector<int64_t>> train;
  std::optional<std::vector<std::vector<int64_t>>> test = std::nullopt;
  std::optional<std::vector<std::vector<int64_t>>> validation = std::nullopt;
  std::vector<std::string> client_names = {};
};

// Hands the first counts[0][c] rows of class c to client 0, the next to client 1, and so on.
std::vector<std::vector<int64_t>> deal(const Counts& counts, const RowsByClass& rows);

// Training rows of each class that all clients use together: all of them, or clients x examples-per-client in
// the classes' own proportions.
std::vector<int64_t> pooled_sizes(const PartitionProblem& problem);

// Rows that --validation-share sets aside of `size` training rows: rounded, at least one, and not all; 0
// without a share.
int64_t validation_size(const Options& options, int64_t size);

// The fewest training rows of a client of which --min-examples remain beside the validation rows.
int64_t fewest_rows(const Options& options);

PartitionDraw partition_dirichlet(PartitionProblem& problem);
PartitionDraw partition_label_sort(PartitionProblem& problem);
PartitionDraw partition_shards(PartitionProblem& problem);
PartitionDraw partition_quantity(PartitionProblem& problem);
PartitionDraw partition_field(PartitionProblem& problem);
PartitionDraw partition_iid(PartitionProblem& problem);
PartitionDraw partition_pooled(PartitionProblem& problem);

}  // namespace pf2lora
