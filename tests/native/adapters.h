// Adapters of clients as tensors: their pairs at one site, or their heads.
#pragma once
#include "native/network.h"

namespace pf2lora::native {

struct ClientAdapters {
  std::vector<Tensor> down, up;      // [G] of [rank, in] and [out, rank]
  std::vector<Tensor> weight, bias;  // [G] of [out, in] and [out]

  static ClientAdapters pairs(const std::vector<int64_t>& ranks, int64_t out, int64_t in,
                              torch::ScalarType type) {
    ClientAdapters drawn;
    for (const int64_t rank : ranks) {
      drawn.down.push_back(draw({rank, in}, type));
      drawn.up.push_back(draw({out, rank}, type));
    }
    return drawn;
  }
  static ClientAdapters heads(int64_t clients, int64_t out, int64_t in, torch::ScalarType type) {
    ClientAdapters drawn;
    for (int64_t g = 0; g < clients; ++g) {
      drawn.weight.push_back(draw({out, in}, type));
      drawn.bias.push_back(draw({out}, type));
    }
    return drawn;
  }

  std::vector<Tensor*> tensors() {
    std::vector<Tensor*> all;
    for (auto* set : {&down, &up, &weight, &bias})
      for (Tensor& x : *set) all.push_back(&x);
    return all;
  }
  // The same shapes, nothing written yet.
  ClientAdapters unwritten() const {
    ClientAdapters same = *this;
    for (Tensor* x : same.tensors()) *x = torch::full_like(*x, NAN);
    return same;
  }

  template <class T>
  AdapterView<T> view(const Tensor& rank_weights) const {
    AdapterView<T> view{.rank_weights = data<T>(rank_weights)};
    if (!down.empty()) view.pairs.emplace_back();
    for (size_t g = 0; g < down.size(); ++g)
      view.pairs[0].push_back({data<T>(down[g]), data<T>(up[g]), down[g].size(0)});
    for (size_t g = 0; g < weight.size(); ++g) view.heads.push_back({data<T>(weight[g]), data<T>(bias[g])});
    return view;
  }
  template <class T>
  AdapterTarget<T> target() const {
    AdapterTarget<T> target;
    if (!down.empty()) target.pairs.emplace_back();
    for (size_t g = 0; g < down.size(); ++g) target.pairs[0].push_back({data<T>(down[g]), data<T>(up[g])});
    for (size_t g = 0; g < weight.size(); ++g) target.heads.push_back({data<T>(weight[g]), data<T>(bias[g])});
    return target;
  }
};

// A question about adapters beside one about values: their derivatives stand after those of the values, in
// the order of tensors().
struct AdapterQuestion {
  Question values;
  ClientAdapters adapters, direction;
  Tensor rank_weights;  // [N, rank], or none
};

template <class T>
Derivatives ask(const Kernels<T>& table, const AdapterQuestion& question, MatrixShape shape,
                const Build<T>& build) {
  ClientAdapters gradient = question.adapters.unwritten(), moved = question.adapters.unwritten();
  const auto pack = [&](Pass<T>& pass, const ClientAdapters& adapters) {
    return pack_adapters(table, pass.pool, adapters.view<T>(question.rank_weights), {shape}, {shape});
  };
  const Prepare<T> prepare{[&](Pass<T>& pass) {
                             pass.adapters = pack(pass, question.adapters);
                             pass.direction = pack(pass, question.direction);
                           },
                           [&](Pass<T>& pass) { pass.target = gradient.target<T>(); },
                           [&](Pass<T>& pass) { pass.target = moved.target<T>(); }};
  Derivatives all = ask(table, question.values, build, prepare);
  for (const Tensor* x : gradient.tensors()) all.gradient.push_back(*x);
  for (const Tensor* x : moved.tensors()) all.gradient_tangent.push_back(*x);
  return all;
}

inline Derivatives answer(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                          const AdapterQuestion& question) {
  Question all = question.values;
  ClientAdapters adapters = question.adapters, direction = question.direction;
  for (const Tensor* x : adapters.tensors()) all.inputs.push_back(*x);
  for (const Tensor* x : direction.tensors()) all.direction.push_back(*x);
  return answer(f, all);
}

// ragged_batch() with targets: 4, none and 5 of its three clients, two of whose six examples have none.
inline BatchShape batch_with_targets() {
  BatchShape batch = ragged_batch();
  batch.target_rows = {0, 1, 3, 5, 23, 25, 30, 31, 33};
  batch.client_targets = {0, 4, 4, 9};
  return batch;
}

// The example of each row.
inline Tensor examples_of_rows(const BatchShape& batch, Per per) {
  std::vector<int64_t> of_token;
  for (int64_t i = 0; i < batch.examples(); ++i)
    of_token.resize(size_t(batch.token_offsets[size_t(i) + 1]), i);
  const Tensor all = torch::tensor(of_token);
  if (per == Per::example) return torch::arange(batch.examples());
  return per == Per::token ? all : all.index_select(0, torch::tensor(batch.target_rows));
}

}  // namespace pf2lora::native
