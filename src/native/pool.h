// Memory of the passes. What is given back serves the next taker, so after the first batches nothing is
// allocated.
#pragma once
#include <cstdint>
#include <memory>

#include "native/arena.h"

namespace pf2lora::native {

// Shared numbers of a pool; the last holder gives them back.
template <class T>
using Numbers = std::shared_ptr<T[]>;

template <class T>
class Pool {
 public:
  // `count` numbers, not initialised. As many as a panel has may be read beyond the last.
  Numbers<T> take(int64_t count) {
    const size_t bytes = size_t(count + kReadable) * sizeof(T);
    return Numbers<T>(reinterpret_cast<T*>(arena_->take(bytes)), [arena = arena_, bytes](T* used) {
      arena->give_back(reinterpret_cast<std::byte*>(used), bytes);
    });
  }

 private:
  static constexpr int64_t kReadable = 64;
  std::shared_ptr<Arena> arena_ = std::make_shared<Arena>();
};

}  // namespace pf2lora::native
