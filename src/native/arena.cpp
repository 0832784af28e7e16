#include "native/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "core/memory.h"

namespace pf2lora::native {

void Arena::Unmap::operator()(std::byte* chunk) const {
  munmap(chunk, bytes);
}

size_t Arena::rounded(size_t bytes) {
  return std::max(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

std::byte* Arena::take(size_t bytes) {
  const size_t size = rounded(bytes);
  auto fits = by_size_.lower_bound({size, nullptr});
  if (fits == by_size_.end()) {
    add_chunk(size);
    fits = by_size_.lower_bound({size, nullptr});
  }
  const auto [found, block] = *fits;
  by_size_.erase(fits);
  free_.erase(block);
  used_ += size;
  if (found > size) add_free(block + size, found - size);
  return block;
}

void Arena::give_back(std::byte* block, size_t bytes) noexcept {
  size_t size = rounded(bytes);
  used_ -= size;
  if (used_ == 0 && chunks_.size() > 1) {
    next_chunk_ = reserved_;
    free_.clear();
    by_size_.clear();
    chunks_.clear();
    reserved_ = 0;
    return;
  }
  const auto after = free_.lower_bound(block);
  if (after != free_.end() && after->first == block + size) {
    size += after->second;
    by_size_.erase({after->second, after->first});
    free_.erase(after);
  }
  const auto next = free_.lower_bound(block);
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == block) {
      block = before->first;
      size += before->second;
      by_size_.erase({before->second, before->first});
      free_.erase(before);
    }
  }
  add_free(block, size);
}

void Arena::add_free(std::byte* block, size_t bytes) {
  free_.emplace(block, bytes);
  by_size_.emplace(bytes, block);
}

void Arena::add_chunk(size_t at_least) {
  constexpr size_t kLargePage = size_t{1} << 21;
  const size_t bytes = (std::max(at_least, next_chunk_) + kLargePage - 1) / kLargePage * kLargePage;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  prefer_large_pages(memory, bytes);
  chunks_.emplace_back(static_cast<std::byte*>(memory), Unmap{bytes});
  reserved_ += bytes;
  next_chunk_ = std::max(next_chunk_, reserved_ / 2);
  add_free(chunks_.back().get(), bytes);
}

}  // namespace pf2lora::native
