// The profile of a run as a file for trace viewers.
#pragma once
#include <string>

#include "comm/communicator.h"

namespace pf2lora {

// All ranks, before the run. Throws AgreedError (invalid input) where rank 0 cannot write to the file; leaves
// what is there.
void check_profile_file(const Communicator& comm, const std::string& file);

// All ranks. Rank 0 writes what every rank's profile() has recorded: JSON in the trace event format (complete
// events, a process for each rank), with the totals by kind and name of each rank as "totals". Throws
// AgreedError where the file cannot be written.
void write_profile(const Communicator& comm, const std::string& file);

// Spans that a rank keeps one by one, so that the file stays below some 100 MB.
size_t profile_spans(int ranks);

}  // namespace pf2lora
