// Clients that disagree about what a class is called: a share of them, --label-conflict, reads its labels
// through a permutation of the classes of its own, in training, validation and test alike. Then no common
// model serves all, whatever the examples.
#pragma once
#include "data/partition.h"

namespace pf2lora {

// Fills `labels` and `label_maps` of a partition whose rows are dealt. The permutation is one random cycle
// through all classes, so that none keeps its name. OptionError for a share that is rounded to no client, or
// for a single class.
void apply_label_conflict(Partition& partition, const Examples& examples, const Options& options);

}  // namespace pf2lora
