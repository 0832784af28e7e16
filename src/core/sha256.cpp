#include "core/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <fstream>
#include <memory>

#include "core/error.h"

namespace pf2lora {

std::string sha256_of_files(const std::vector<std::string>& paths) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  std::vector<char> block(1 << 20);
  for (const std::string& path : paths) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw InputError("cannot read " + path);
    while (file.read(block.data(), std::streamsize(block.size())) || file.gcount() > 0)
      EVP_DigestUpdate(context.get(), block.data(), size_t(file.gcount()));
    if (file.bad()) throw InputError("cannot read all of " + path);
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &size);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    constexpr char digits[] = "0123456789abcdef";
    text += {digits[digest[i] >> 4], digits[digest[i] & 15]};
  }
  return text;
}

}  // namespace pf2lora
