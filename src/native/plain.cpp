// Any processor: 16-byte vectors are in the base of x86-64 and AArch64.
#include "native/table.h"

namespace pf2lora::native {
namespace {

struct Plain {
  static constexpr const char* name = "plain";
  static constexpr int64_t bytes = 16;
#ifdef __aarch64__
  static constexpr int64_t tile_rows = 8;  // 32 registers
#else
  static constexpr int64_t tile_rows = 4;  // 16 registers
#endif
};

}  // namespace

constinit const Kernels<float> plain_float = table<Plain, float>();
constinit const Kernels<double> plain_double = table<Plain, double>();

}  // namespace pf2lora::native
