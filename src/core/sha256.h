#pragma once
#include <string>
#include <vector>

namespace pf2lora {

// SHA-256 of the bytes of files, end to end, in lower-case hexadecimal. Throws InputError where one cannot be
// read.
std::string sha256_of_files(const std::vector<std::string>& paths);

}  // namespace pf2lora
