// x86-64 with AVX2 and FMA: 16 registers of 32 bytes.
#include "native/table.h"

namespace pf2lora::native {
namespace {

struct Avx2 {
  static constexpr const char* name = "avx2";
  static constexpr int64_t bytes = 32, tile_rows = 6;
};

}  // namespace

constinit const Kernels<float> avx2_float = table<Avx2, float>();
constinit const Kernels<double> avx2_double = table<Avx2, double>();

}  // namespace pf2lora::native
