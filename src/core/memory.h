// Large blocks of memory that are filled once and then only read.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace pf2lora {

// Fills memory that begins at a multiple of 64 bytes.
using FillMemory = std::function<void(std::byte*)>;
// Hands out `bytes` that `fill` has filled. Who makes it decides which process fills and which ones read.
using FilledMemory = std::function<std::shared_ptr<const std::byte>(size_t bytes, const FillMemory& fill)>;

// Most memory that this process has had resident so far, in bytes; shared pages that it touched are counted.
int64_t peak_memory();

// Asks the system for large pages under the block, which spare products many address lookups.
void prefer_large_pages(void* block, size_t bytes);

// A FilledMemory of this process alone. Throws std::bad_alloc.
std::shared_ptr<const std::byte> own_filled_memory(size_t bytes, const FillMemory& fill);

}  // namespace pf2lora
