// Adapters as the native operations read them: the pairs of every site and client in panels, once a pass.
#pragma once
#include <cstdint>
#include <vector>

#include "native/kernels.h"
#include "native/pool.h"

namespace pf2lora::native {

// The pair of one site and client: down [rank, in] and up [out, rank], row-major; rank 0 where there is none.
template <class T>
struct PairView {
  const T* down = nullptr;
  const T* up = nullptr;
  int64_t rank = 0;
};

// One layer of a client's head: weight [out, in], bias [out].
template <class T>
struct HeadView {
  const T* weight = nullptr;
  const T* bias = nullptr;
};

// What a caller hands to a pass; G clients, N examples.
template <class T>
struct AdapterView {
  std::vector<std::vector<PairView<T>>> pairs;  // [sites][G], or [sites][0] where a site has none
  std::vector<HeadView<T>> heads;               // [layers of the head * G], layer after layer, or empty
  std::vector<const T*> dense;                  // [sites]: [out, in] or nullptr; empty: none
  const T* rank_weights = nullptr;              // [N, rank], nullptr: all 1
};

// Where gradients go: the shapes of PairView and HeadView.
template <class T>
struct PairTarget {
  T* down = nullptr;
  T* up = nullptr;
};
template <class T>
struct HeadTarget {
  T* weight = nullptr;
  T* bias = nullptr;
};
template <class T>
struct AdapterTarget {
  std::vector<std::vector<PairTarget<T>>> pairs;  // [sites][G]
  std::vector<HeadTarget<T>> heads;               // [layers of the head * G]
};

// A matrix as right-hand side of products, in panels.
template <class T>
struct PackedMatrix {
  Numbers<T> panels;
  int64_t depth = 0;
  // a [., depth], its rows a_row apart, times this; nothing where `a` is nullptr or this is empty.
  Term<T> times(const T* a, int64_t a_row, int64_t panel) const {
    return {panels == nullptr ? nullptr : a, a_row, 1, depth, panels.get(), panel, depth * panel};
  }
};

// Element (k, j) at from[k * from_depth + j * from_column].
template <class T>
PackedMatrix<T> pack(const Kernels<T>& kernels, Pool<T>& pool, const T* from, int64_t from_depth,
                     int64_t from_column, int64_t depth, int64_t columns) {
  PackedMatrix<T> packed{pool.take(kernels.panels_size(depth, columns)), depth};
  kernels.pack_panels(from, from_depth, from_column, depth, columns, packed.panels.get());
  return packed;
}

// W [out, in] both ways: y = x W^T and d_x = d_y W.
template <class T>
struct PackedWeight {
  PackedMatrix<T> transposed;  // [in, out]
  PackedMatrix<T> plain;       // [out, in]
};

template <class T>
PackedWeight<T> pack_weight(const Kernels<T>& kernels, Pool<T>& pool, const T* weight, int64_t out,
                            int64_t in) {
  return {pack(kernels, pool, weight, 1, in, in, out), pack(kernels, pool, weight, in, 1, out, in)};
}

template <class T>
struct PackedPair {
  int64_t rank = 0;
  PackedWeight<T> down;
  std::vector<PackedWeight<T>> up;  // [blocks], of [out / blocks, rank] each
};

template <class T>
struct PackedHead {
  PackedWeight<T> weight;
  const T* bias = nullptr;
};

template <class T>
struct PackedAdapters {
  std::vector<std::vector<PackedPair<T>>> pairs;    // [sites][G]
  std::vector<PackedHead<T>> heads;                 // [layers of the head * G]
  std::vector<std::vector<PackedWeight<T>>> dense;  // [sites][blocks] of [out / blocks, in], or empty: none
  const T* rank_weights = nullptr;                  // [N, rank], nullptr: all 1
};

struct MatrixShape {
  int64_t out = 0, in = 0;
  int64_t blocks = 1;  // of rows, which LinearOperation multiplies one by one
};

// `sites` are the shapes of the frozen weights, `heads` those of the weights of a head's layers.
template <class T>
PackedAdapters<T> pack_adapters(const Kernels<T>& kernels, Pool<T>& pool, const AdapterView<T>& adapters,
                                const std::vector<MatrixShape>& sites,
                                const std::vector<MatrixShape>& heads) {
  PackedAdapters<T> packed{.rank_weights = adapters.rank_weights};
  const auto weight = [&](const T* from, int64_t out, int64_t in) {
    return pack_weight(kernels, pool, from, out, in);
  };
  const auto blocks = [&](const T* from, const MatrixShape& site, int64_t in) {
    const int64_t rows = site.out / site.blocks;
    std::vector<PackedWeight<T>> parts;
    for (int64_t b = 0; b < site.blocks; ++b) parts.push_back(weight(from + b * rows * in, rows, in));
    return parts;
  };
  for (size_t site = 0; site < adapters.pairs.size(); ++site) {
    auto& of_site = packed.pairs.emplace_back();
    for (const PairView<T>& pair : adapters.pairs[site]) {
      PackedPair<T>& both = of_site.emplace_back();
      if (pair.rank == 0) continue;
      both = {pair.rank, weight(pair.down, pair.rank, sites[site].in),
              blocks(pair.up, sites[site], pair.rank)};
    }
  }
  for (size_t i = 0; i < adapters.heads.size(); ++i) {
    const HeadView<T>& view = adapters.heads[i];
    const MatrixShape& shape = heads[i * heads.size() / adapters.heads.size()];
    packed.heads.push_back({weight(view.weight, shape.out, shape.in), view.bias});
  }
  for (size_t site = 0; site < adapters.dense.size(); ++site) {
    packed.dense.emplace_back();
    if (const T* dense = adapters.dense[site]; dense != nullptr)
      packed.dense.back() = blocks(dense, sites[site], sites[site].in);
  }
  return packed;
}

}  // namespace pf2lora::native
