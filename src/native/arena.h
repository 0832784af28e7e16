// Memory that is taken and given back in any order, many times over, out of few large chunks.
#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

namespace pf2lora::native {

// The smallest free block that fits is cut; neighbours that are free join. When all is given back, several
// chunks become one of their size, so that a repeated pattern of use comes to need one chunk and no more of
// it than it ever held at once, holes apart. For one thread at a time.
class Arena {
 public:
  static constexpr size_t kAlignment = 64;

  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // `bytes`, not initialised, at a multiple of kAlignment. Throws std::bad_alloc.
  std::byte* take(size_t bytes);
  // What take(bytes) returned. Throws nothing.
  void give_back(std::byte* block, size_t bytes) noexcept;

  size_t reserved() const { return reserved_; }  // bytes of address space, which become memory when touched

 private:
  struct Unmap {
    size_t bytes = 0;
    void operator()(std::byte* chunk) const;
  };
  using Chunk = std::unique_ptr<std::byte, Unmap>;

  static size_t rounded(size_t bytes);
  void add_chunk(size_t at_least);
  void add_free(std::byte* block, size_t bytes);

  std::vector<Chunk> chunks_;
  size_t reserved_ = 0, used_ = 0;
  size_t next_chunk_ = size_t{4} << 20;
  std::map<std::byte*, size_t> free_;                // by address
  std::set<std::pair<size_t, std::byte*>> by_size_;  // the same
};

}  // namespace pf2lora::native
