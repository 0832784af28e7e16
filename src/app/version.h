// What this program is and what it was built with.
#pragma once
#include <iosfwd>
#include <vector>

#include "io/hdf5_file.h"

namespace pf2lora {

void print_version(std::ostream& out);

// Root attributes of results.h5: version, commit, libraries, processor, command line, start time.
std::vector<Attribute> program_provenance(const std::string& command_line);

}  // namespace pf2lora
