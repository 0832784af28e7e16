#include "native/linear_op.h"

#include <algorithm>
#include <array>

namespace pf2lora::native {
namespace {

template <class T>
const PackedPair<T>& pair_of(const PackedAdapters<T>& adapters, int site, size_t g) {
  static const PackedPair<T> none;
  return site < 0 || size_t(site) >= adapters.pairs.size() ? none : adapters.pairs[size_t(site)][g];
}

}  // namespace

template <class T>
std::vector<typename LinearOperation<T>::Share> LinearOperation<T>::shares(const Pass<T>& pass) const {
  std::vector<Share> shares;
  int64_t low = 0;
  for (int64_t g = 0; g < pass.batch.clients(); ++g) {
    const int64_t begin = pass.batch.begin(this->per, g);
    const int64_t rows = pass.batch.begin(this->per, g + 1) - begin;
    const PackedPair<T>& pair = pair_of(pass.adapters, site_, size_t(g));
    shares.push_back({g, begin, rows, low, pair, pair_of(pass.direction, site_, size_t(g))});
    low += rows * pair.rank;
  }
  return shares;
}

template <class T>
int64_t LinearOperation<T>::low_size(const Pass<T>& pass) const {
  int64_t size = 0;
  for (const Share& share : shares(pass)) size += share.rows * share.pair.rank;
  return size;
}

template <class T>
const PackedWeight<T>& LinearOperation<T>::dense(const Pass<T>& pass) const {
  static const PackedWeight<T> none;
  return site_ < 0 || size_t(site_) >= pass.adapters.dense.size() ? none : pass.adapters.dense[size_t(site_)];
}

template <class T>
void LinearOperation<T>::weigh(const Pass<T>& pass, const Share& share, T* rows) const {
  const T* weights = pass.adapters.rank_weights;
  if (weights == nullptr) return;
  const int64_t rank = share.pair.rank;
  const auto scale = [&](int64_t row, int64_t example) {
    for (int64_t k = 0; k < rank; ++k) rows[(row - share.begin) * rank + k] *= weights[example * rank + k];
  };
  if (this->per == Per::example) {
    for (int64_t row = share.begin; row < share.begin + share.rows; ++row) scale(row, row);
    return;
  }
  const auto& offsets = pass.batch.token_offsets;
  auto example = int64_t(std::upper_bound(offsets.begin(), offsets.end(), share.begin) - offsets.begin()) - 1;
  for (int64_t row = share.begin; row < share.begin + share.rows; ++row) {
    while (row >= offsets[size_t(example) + 1]) ++example;
    scale(row, example);
  }
}

template <class T>
void LinearOperation<T>::value(Pass<T>& pass) const {
  const Kernels<T>& kernels = pass.kernels;
  const int64_t panel = kernels.panel, out = this->width;
  const T* x = this->input(pass.value);
  T* y = this->make(pass.value, pass);
  const bool ready = this->inputs.size() > 1;
  if (ready) std::copy_n(this->input(pass.value, 1), this->size(pass), y);
  T* low = this->keep(pass, Kept::low, low_size(pass));
  for (const Share& share : shares(pass)) {
    const T* own_x = x + share.begin * in_;
    const int64_t rank = share.pair.rank;
    T* z = low + share.low;
    if (rank > 0) {
      const std::array terms{share.pair.down.transposed.times(own_x, in_, panel)};
      kernels.product(terms, share.rows, rank, {z, rank}, nullptr, false);
      weigh(pass, share, z);
    }
    product(pass, layer_.transposed, own_x, in_,
            {dense(pass).transposed.times(own_x, in_, panel), share.pair.up.transposed.times(z, rank, panel)},
            share.rows, out, {y + share.begin * out, out}, ready ? nullptr : layer_.bias.data(), ready);
  }
}

// d_down = low_gradient^T x and d_up = d_y^T low, summed over both factors.
template <class T>
void LinearOperation<T>::write_pair(Pass<T>& pass, const Share& share, const Factors& first,
                                    const Factors& second) const {
  const Kernels<T>& kernels = pass.kernels;
  const int64_t rank = share.pair.rank, rows = share.rows, out = this->width;
  const PairTarget<T>& target = pass.target.pairs[size_t(site_)][size_t(share.client)];
  const auto product = [&](const T* left, const T* right, int64_t columns, Term<T>& term) {
    term = {right == nullptr ? nullptr : left, 1, rank, rows, right, columns, kernels.panel};
  };
  std::array<Term<T>, 2> terms;
  product(first.low_gradient, first.x, in_, terms[0]);
  product(second.low_gradient, second.x, in_, terms[1]);
  kernels.product(terms, rank, in_, {target.down, in_}, nullptr, false);

  const Numbers<T> up = pass.take(rank * out);  // [rank, out]
  product(first.low, first.d_y, out, terms[0]);
  product(second.low, second.d_y, out, terms[1]);
  kernels.product(terms, rank, out, {up.get(), out}, nullptr, false);
  for (int64_t k = 0; k < rank; ++k)
    for (int64_t j = 0; j < out; ++j) target.up[j * rank + k] = up[size_t(k * out + j)];
}

template <class T>
void LinearOperation<T>::gradient(Pass<T>& pass) const {
  const Kernels<T>& kernels = pass.kernels;
  const int64_t panel = kernels.panel, out = this->width;
  const T* x = this->input(pass.value);
  const T* d_y = this->result(pass.gradient);
  const T* low = this->kept(pass, Kept::low);
  T* low_gradient = this->keep(pass, Kept::low_gradient, low_size(pass));
  Destination<T> d_x;
  if (this->input_is_active[0])
    d_x = this->destination(pass.gradient, pass, 0, pass.batch.rows(this->per) * in_);
  for (const Share& share : shares(pass)) {
    const int64_t rank = share.pair.rank;
    const T* own_d_y = d_y + share.begin * out;
    T* d_low = low_gradient + share.low;
    if (rank > 0) {
      const std::array terms{share.pair.up.plain.times(own_d_y, out, panel)};
      kernels.product(terms, share.rows, rank, {d_low, rank}, nullptr, false);
      weigh(pass, share, d_low);
      write_pair(pass, share, {d_low, x + share.begin * in_, low + share.low, own_d_y}, {});
    }
    if (d_x.data == nullptr) continue;
    product(pass, layer_.plain, own_d_y, out,
            {dense(pass).plain.times(own_d_y, out, panel), share.pair.down.plain.times(d_low, rank, panel)},
            share.rows, in_, {d_x.data + share.begin * in_, in_}, nullptr, d_x.add);
  }
}

template <class T>
void LinearOperation<T>::tangent(Pass<T>& pass) const {
  const Kernels<T>& kernels = pass.kernels;
  const int64_t panel = kernels.panel, out = this->width;
  const T* x = this->input(pass.value);
  const T* t_x = this->input(pass.tangent);  // nullptr: 0
  const T* low = this->kept(pass, Kept::low);
  T* t_y = this->make(pass.tangent, pass);
  T* low_tangent = this->keep(pass, Kept::low_tangent, low_size(pass));
  for (const Share& share : shares(pass)) {
    const int64_t rank = share.pair.rank;
    const T* own_t_x = t_x == nullptr ? nullptr : t_x + share.begin * in_;
    T* t_low = low_tangent + share.low;
    if (rank > 0) {
      const std::array terms{share.direction.down.transposed.times(x + share.begin * in_, in_, panel),
                             share.pair.down.transposed.times(own_t_x, in_, panel)};
      kernels.product(terms, share.rows, rank, {t_low, rank}, nullptr, false);
      weigh(pass, share, t_low);
    }
    product(pass, layer_.transposed, own_t_x, in_,
            {dense(pass).transposed.times(own_t_x, in_, panel),
             share.pair.up.transposed.times(t_low, rank, panel),
             share.direction.up.transposed.times(low + share.low, rank, panel)},
            share.rows, out, {t_y + share.begin * out, out}, nullptr, false);
  }
}

template <class T>
void LinearOperation<T>::gradient_tangent(Pass<T>& pass) const {
  const Kernels<T>& kernels = pass.kernels;
  const int64_t panel = kernels.panel, out = this->width;
  const T* x = this->input(pass.value);
  const T* t_x = this->input(pass.tangent);
  const T* d_y = adapted() ? this->result(pass.gradient) : nullptr;
  const T* t_d_y = this->result(pass.gradient_tangent);
  Destination<T> t_d_x;
  if (this->input_is_active[0])
    t_d_x = this->destination(pass.gradient_tangent, pass, 0, pass.batch.rows(this->per) * in_);
  const T* low = this->kept(pass, Kept::low);
  const T* low_tangent = this->kept(pass, Kept::low_tangent);
  const T* low_gradient = this->kept(pass, Kept::low_gradient);
  const Numbers<T> both = pass.take(low_size(pass));
  for (const Share& share : shares(pass)) {
    const int64_t rank = share.pair.rank;
    const T* own_t_d_y = t_d_y + share.begin * out;
    const T* d_low = low_gradient + share.low;
    T* t_d_low = both.get() + share.low;
    if (rank > 0) {
      const T* own_d_y = d_y + share.begin * out;
      const T* own_t_x = t_x == nullptr ? nullptr : t_x + share.begin * in_;
      const std::array terms{share.pair.up.plain.times(own_t_d_y, out, panel),
                             share.direction.up.plain.times(own_d_y, out, panel)};
      kernels.product(terms, share.rows, rank, {t_d_low, rank}, nullptr, false);
      weigh(pass, share, t_d_low);
      write_pair(pass, share, {t_d_low, x + share.begin * in_, low + share.low, own_t_d_y},
                 {d_low, own_t_x, low_tangent + share.low, own_d_y});
    }
    if (t_d_x.data == nullptr) continue;
    product(
        pass, layer_.plain, own_t_d_y, out,
        {dense(pass).plain.times(own_t_d_y, out, panel), share.pair.down.plain.times(t_d_low, rank, panel),
         share.direction.down.plain.times(d_low, rank, panel)},
        share.rows, in_, {t_d_x.data + share.begin * in_, in_}, nullptr, t_d_x.add);
  }
}

template class LinearOperation<float>;
template class LinearOperation<double>;

}  // namespace pf2lora::native
