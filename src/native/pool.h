// Memory of the passes. What is given back serves the next taker, so after the first batches nothing is
// allocated.
#pragma once
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <new>

namespace pf2lora::native {

// Shared numbers of a pool; the last holder gives them back.
template <class T>
using Numbers = std::shared_ptr<T[]>;

template <class T>
class Pool {
 public:
  // `count` numbers, not initialised. As many as a panel has may be read beyond the last.
  Numbers<T> take(int64_t count) {
    auto [capacity, data] = free_->find(count);
    return Numbers<T>(data.release(), [free = free_, capacity](T* used) { free->give_back(used, capacity); });
  }

 private:
  struct Aligned {
    void operator()(T* data) const { ::operator delete[](data, kAlignment); }
  };
  using Owned = std::unique_ptr<T[], Aligned>;

  struct FreeList {
    std::multimap<int64_t, Owned> by_capacity;

    std::pair<int64_t, Owned> find(int64_t count) {
      if (auto fits = by_capacity.lower_bound(count); fits != by_capacity.end()) return extract(fits);
      // None is large enough: the largest makes room for a larger one.
      if (!by_capacity.empty()) extract(std::prev(by_capacity.end()));
      const int64_t capacity = count + count / 8 + 64, size = capacity + kReadable;
      Owned data(new (kAlignment) T[size_t(size)]);
      std::fill_n(data.get(), size, T(0));
      return {capacity, std::move(data)};
    }
    std::pair<int64_t, Owned> extract(typename std::multimap<int64_t, Owned>::iterator at) {
      std::pair<int64_t, Owned> taken(at->first, std::move(at->second));
      by_capacity.erase(at);
      return taken;
    }
    void give_back(T* data, int64_t capacity) { by_capacity.emplace(capacity, Owned(data)); }
  };

  static constexpr std::align_val_t kAlignment{64};
  static constexpr int64_t kReadable = 64;
  std::shared_ptr<FreeList> free_ = std::make_shared<FreeList>();
};

}  // namespace pf2lora::native
