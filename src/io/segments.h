// The files `segments/NNNNNN.h5` of a run that goes on: NNNNNN is the round up to which the file holds rows.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace pf2lora {

std::string segment_path(const std::string& directory, int64_t round);

// Rounds of the segment files in `directory`, ascending; empty when there is no such directory.
std::vector<int64_t> list_segments(const std::string& directory);

// Removes the segment files (half-written ones too) whose round is not in `keep`. Other files stay. Throws
// Error.
void remove_segment_files(const std::string& directory, const std::vector<int64_t>& keep = {});

}  // namespace pf2lora
