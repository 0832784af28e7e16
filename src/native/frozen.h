// Frozen matrices as right-hand side of products, in numbers of T or of bf16, all in one block of memory that
// processes may share.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/memory.h"
#include "native/graph.h"

namespace pf2lora::native {

// bf16, bf16x3: of float, where the kernels have products of theirs.
enum class Storage { full, bf16, bf16x3 };

// W [depth, columns] in panels; 0 without a block.
template <class T>
struct FrozenMatrix {
  const std::shared_ptr<const std::byte>* block = nullptr;
  size_t begin = 0;                   // in the block
  const Bf16Kernels* bf16 = nullptr;  // whose panels they are; nullptr: those of Kernels<T>
  int64_t depth = 0;
  template <class Number>
  const Number* panels() const {
    return block == nullptr ? nullptr : reinterpret_cast<const Number*>(block->get() + begin);
  }
};

// The matrices are added first, then laid out once, and from then on read.
template <class T>
class FrozenBlock {
 public:
  FrozenBlock(const Kernels<T>& kernels, Storage storage)
      : kernels_(kernels),
        bf16_(storage == Storage::bf16     ? kernels.bf16
              : storage == Storage::bf16x3 ? kernels.bf16x3
                                           : nullptr) {}
  FrozenBlock(const FrozenBlock&) = delete;
  FrozenBlock& operator=(const FrozenBlock&) = delete;

  // Element (k, j) at from[k * from_depth + j * from_column]. What it returns lives as long as this block.
  FrozenMatrix<T> add(std::shared_ptr<const T> from, int64_t from_depth, int64_t from_column, int64_t depth,
                      int64_t columns) {
    const FrozenMatrix<T> matrix{&block_, bytes_, bf16_, depth};
    bytes_ += round_up(bf16_ == nullptr ? size_t(kernels_.panels_size(depth, columns)) * sizeof(T)
                                        : size_t(bf16_->panels_size(depth, columns)) * sizeof(Bf16));
    sources_.push_back({std::move(from), from_depth, from_column, columns, matrix});
    return matrix;
  }

  // Of all matrices, and what may be read beyond the last.
  size_t bytes() const { return bytes_ + kAlignment * sizeof(T); }
  const Bf16Kernels* bf16() const { return bf16_; }

  void lay_out(const FilledMemory& memory) {
    block_ = memory(bytes(), [&](std::byte* to) {
      for (const Source& source : sources_) write(source, to + source.matrix.begin);
    });
    sources_.clear();
  }

 private:
  struct Source {
    std::shared_ptr<const T> from;
    int64_t from_depth, from_column, columns;
    FrozenMatrix<T> matrix;
  };
  static constexpr size_t kAlignment = 64;
  static size_t round_up(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  void write(const Source& source, std::byte* to) const {
    const auto& [from, from_depth, from_column, columns, matrix] = source;
    const auto pack = [&](const auto& pack_panels, auto* panels) {
      pack_panels(from.get(), from_depth, from_column, matrix.depth, columns, panels);
    };
    if constexpr (std::is_same_v<T, float>)
      if (bf16_ != nullptr) return pack(bf16_->pack_panels, reinterpret_cast<Bf16*>(to));
    pack(kernels_.pack_panels, reinterpret_cast<T*>(to));
  }

  const Kernels<T>& kernels_;
  const Bf16Kernels* const bf16_;
  size_t bytes_ = 0;
  std::vector<Source> sources_;  // until they are laid out
  std::shared_ptr<const std::byte> block_;
};

// c [rows, columns] = a [rows, depth] frozen + the other terms + bias (nullptr: 0) + c where `add` says so; a
// may be nullptr: 0. With a frozen matrix in bf16, a becomes such too; sums are in T throughout.
template <class T>
void product(const Pass<T>& pass, const FrozenMatrix<T>& frozen, const T* a, int64_t a_row,
             std::initializer_list<Term<T>> others, int64_t rows, int64_t columns, Rows<T> c,
             const std::type_identity_t<T>* bias, bool add) {
  const TeamKernels<T>& kernels = pass.kernels;
  if constexpr (std::is_same_v<T, float>)
    if (frozen.bf16 != nullptr && a != nullptr) {
      const Numbers<T> scratch = pass.pool.take(kernels.bf16_scratch(*frozen.bf16, rows, frozen.depth));
      const Bf16Term term{a, a_row, frozen.depth, frozen.template panels<Bf16>()};
      return kernels.bf16_product(*frozen.bf16, term, {others.begin(), others.size()}, rows, columns, c, bias,
                                  add, scratch.get());
    }
  const T* panels = frozen.template panels<T>();
  std::array<Term<T>, kMostTerms> terms{{{panels == nullptr ? nullptr : a, a_row, 1, frozen.depth, panels,
                                          kernels.panel, frozen.depth * kernels.panel}}};
  std::copy(others.begin(), others.end(), terms.begin() + 1);
  kernels.product(std::span(terms).first(1 + others.size()), rows, columns, c, bias, add);
}

}  // namespace pf2lora::native
