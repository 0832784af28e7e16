// x86-64 with AVX-512: 32 registers of 64 bytes.
#include "native/table.h"

namespace pf2lora::native {
namespace {

struct Avx512 {
  static constexpr const char* name = "avx512";
  static constexpr int64_t bytes = 64, tile_rows = 14;
};

}  // namespace

constinit const Kernels<float> avx512_float = table<Avx512, float>();
constinit const Kernels<double> avx512_double = table<Avx512, double>();

}  // namespace pf2lora::native
