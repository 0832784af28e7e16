// A client's test and validation sets.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/partition_methods.h"

namespace pf2lora {

// `rows` ("test" or "validation" ones, as `kind` says) shared out in the proportions of the clients' training
// rows, `asked` to each, or where that is 0 as make_partition describes. Notes what could not be met.
std::vector<std::vector<int64_t>> share_in_proportion(PartitionProblem& problem, const Counts& train,
                                                      const RowsByClass& rows, int64_t asked,
                                                      const std::string& kind);

// Moves --validation-share of client `number`'s training rows, by class in their proportions, to its
// validation rows. OptionError for a client of one training row.
void set_validation_aside(ClientExamples& client, int64_t number, const Examples& examples,
                          const Options& options);

}  // namespace pf2lora
