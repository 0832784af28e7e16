#include "core/memory.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <cstdlib>
#include <new>

namespace pf2lora {

int64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;  // Linux gives KiB
}

void prefer_large_pages(void* block, size_t bytes) {
  madvise(block, bytes, MADV_HUGEPAGE);  // a wish: the pages are usable without it
}

std::shared_ptr<const std::byte> own_filled_memory(size_t bytes, const FillMemory& fill) {
  constexpr size_t kLargePage = size_t{1} << 21;
  const size_t size = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  std::shared_ptr<std::byte> block(static_cast<std::byte*>(std::aligned_alloc(kLargePage, size)), std::free);
  if (size > 0 && !block) throw std::bad_alloc();
  prefer_large_pages(block.get(), size);
  fill(block.get());
  return block;
}

}  // namespace pf2lora
