#include "native/kernels.h"

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <string>
#include <vector>

#include "core/error.h"
#include "native/bf16_tables.h"
#include "native/table.h"

namespace pf2lora::native {
namespace {

template <class T>
const Kernels<T>& choose(const Kernels<float>& single, const Kernels<double>& full) {
  if constexpr (sizeof(T) == sizeof(float))
    return single;
  else
    return full;
}

#ifdef __x86_64__
// Linux lets a process use the tiles of AMX once it has asked (arch_prctl(2)).
bool may_use_tiles() {
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

std::vector<const Bf16Kernels*> supported_bf16_kernels() {
  std::vector<const Bf16Kernels*> tables;
  if (!supported(Processor::avx512) || !__builtin_cpu_supports("avx512bf16")) return tables;
  if (__builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && may_use_tiles())
    tables.push_back(&amx_bf16);
  tables.push_back(&avx512_bf16);
  return tables;
}

Kernels<float> best_avx512() {
  Kernels<float> table = avx512_float;
  if (bf16_kernels().empty()) return table;
  table.bf16 = bf16_kernels().front();
  if (table.bf16 == &amx_bf16) table.bf16x3 = &amx_bf16x3;
  return table;
}
#endif

}  // namespace

bool supported([[maybe_unused]] Processor processor) {
#ifdef __x86_64__
  const auto has = [](auto... features) { return (... && features); };
  switch (processor) {
    case Processor::plain:
      return true;
    case Processor::avx2:
      return has(__builtin_cpu_supports("avx2"), __builtin_cpu_supports("fma"));
    case Processor::avx512:
      return has(__builtin_cpu_supports("avx512f"), __builtin_cpu_supports("avx512vl"),
                 __builtin_cpu_supports("avx512dq"), __builtin_cpu_supports("avx512bw"),
                 __builtin_cpu_supports("fma"));
  }
#endif
  return processor == Processor::plain;
}

Processor this_processor() {
  for (const Processor processor : {Processor::avx512, Processor::avx2})
    if (supported(processor)) return processor;
  return Processor::plain;
}

std::span<const Bf16Kernels* const> bf16_kernels() {
#ifdef __x86_64__
  static const std::vector<const Bf16Kernels*> tables = supported_bf16_kernels();
  return tables;
#else
  return {};
#endif
}

template <class T>
const Kernels<T>& kernels(Processor processor) {
  if (!supported(processor))
    throw Error(ExitCode::internal_error,
                "this processor lacks instructions of kernel table " + std::to_string(int(processor)));
#ifdef __x86_64__
  static const Kernels<float> avx512 = best_avx512();
  if (processor == Processor::avx512) return choose<T>(avx512, avx512_double);
  if (processor == Processor::avx2) return choose<T>(avx2_float, avx2_double);
#endif
  return choose<T>(plain_float, plain_double);
}

template const Kernels<float>& kernels<float>(Processor);
template const Kernels<double>& kernels<double>(Processor);

}  // namespace pf2lora::native
