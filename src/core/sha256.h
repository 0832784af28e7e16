#pragma once
#include <string>

namespace pf2lora {

// SHA-256 of a file's bytes in lower-case hexadecimal. Throws InputError where it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace pf2lora
