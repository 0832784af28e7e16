#include "native/kernels.h"

#include <string>

#include "core/error.h"
#include "native/half.h"
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
// With products in bf16 where the processor has them.
Kernels<float> best_avx512() {
  Kernels<float> table = avx512_float;
  if (!__builtin_cpu_supports("avx512bf16")) return table;
  table.pack_panels_half = avx512_bf16.pack_panels_half;
  table.half_scratch = avx512_bf16.half_scratch;
  table.product_half = avx512_bf16.product_half;
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
