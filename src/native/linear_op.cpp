#include "native/linear_op.h"

#include <algorithm>
#include <array>

namespace pf2lora::native {
namespace {

template <class T>
const PackedPair<T>& pair_of(const PackedAdapters<T>& adapters, int site, size_t g) {
  static const PackedPair<T> none;
  const bool some =
      site >= 0 && size_t(site) < adapters.pairs.size() && !adapters.pairs[size_t(site)].empty();
  return some ? adapters.pairs[size_t(site)][g] : none;
}

template <class T>
const T* at(const T* data, int64_t offset) {
  return data == nullptr ? nullptr : data + offset;
}

}  // namespace

// Client by client and block by block.
template <class T>
std::vector<typename LinearOperation<T>::Share> LinearOperation<T>::shares(const Pass<T>& pass) const {
  std::vector<Share> shares;
  int64_t low = 0;
  for (int64_t g = 0; g < pass.batch.clients(); ++g) {
    const int64_t begin = pass.batch.begin(this->per, g);
    const int64_t rows = pass.batch.begin(this->per, g + 1) - begin;
    const PackedPair<T>& pair = pair_of(pass.adapters, site_, size_t(g));
    const PackedPair<T>& direction = pair_of(pass.direction, site_, size_t(g));
    for (int64_t b = 0; b < blocks_; ++b) {
      shares.push_back({g, b, begin, rows, pair.rank, begin * x_row() + b * in_,
                        begin * this->width + b * out(), low, pair, direction});
      low += rows * pair.rank;
    }
  }
  return shares;
}

template <class T>
int64_t LinearOperation<T>::low_size(const Pass<T>& pass) const {
  int64_t size = 0;
  for (const Share& share : shares(pass)) size += share.rows * share.rank;
  return size;
}

template <class T>
typename LinearOperation<T>::Factors LinearOperation<T>::factors(const PackedPair<T>& pair,
                                                                 int64_t block) const {
  static const PackedWeight<T> none;
  const PackedWeight<T>& up = pair.rank == 0 ? none : pair.up[size_t(block)];
  const PackedWeight<T>& down = pair.down;
  if (backwards_) return {up.plain, down.plain, down.transposed, up.transposed};
  return {down.transposed, up.transposed, up.plain, down.plain};
}

template <class T>
const PackedMatrix<T>& LinearOperation<T>::dense(const Pass<T>& pass, int64_t block, bool gradient) const {
  static const PackedMatrix<T> none;
  if (site_ < 0 || size_t(site_) >= pass.adapters.dense.size()) return none;
  const auto& blocks = pass.adapters.dense[size_t(site_)];
  if (blocks.empty()) return none;
  const PackedWeight<T>& weight = blocks[size_t(block)];
  return gradient == backwards_ ? weight.transposed : weight.plain;
}

template <class T>
void LinearOperation<T>::weigh(const Pass<T>& pass, const Share& share, T* rows) const {
  const T* weights = pass.adapters.rank_weights;
  if (weights == nullptr) return;
  const int64_t rank = share.rank;
  const auto scale = [&](int64_t row, int64_t example) {
    for (int64_t k = 0; k < rank; ++k) rows[(row - share.begin) * rank + k] *= weights[example * rank + k];
  };
  if (this->per == Per::example) {
    for (int64_t row = share.begin; row < share.begin + share.rows; ++row) scale(row, row);
    return;
  }
  const auto token = [&](int64_t row) {
    return this->per == Per::target ? pass.batch.target_rows[size_t(row)] : row;
  };
  const auto& offsets = pass.batch.token_offsets;
  int64_t example = pass.batch.client_examples[size_t(share.client)];
  for (int64_t row = share.begin; row < share.begin + share.rows; ++row) {
    while (token(row) >= offsets[size_t(example) + 1]) ++example;
    scale(row, example);
  }
}

template <class T>
void LinearOperation<T>::value(Pass<T>& pass) const {
  const TeamKernels<T>& kernels = pass.kernels;
  const int64_t panel = kernels.panel;
  const T* x = this->input(pass.value);
  T* y = this->make(pass.value, pass);
  const bool ready = this->inputs.size() > 1;
  if (ready) std::copy_n(this->input(pass.value, 1), this->size(pass), y);
  T* low = this->keep(pass, Kept::low, low_size(pass));
  for (const Share& share : shares(pass)) {
    const Factors pair = factors(share.pair, share.block);
    const T* own_x = x + share.x;
    T* z = low + share.low;
    if (share.rank > 0) {
      const std::array terms{pair.in.times(own_x, x_row(), panel)};
      kernels.product(terms, share.rows, share.rank, {z, share.rank}, nullptr, false);
      weigh(pass, share, z);
    }
    product(
        pass, layer_.value[size_t(share.block)], own_x, x_row(),
        {dense(pass, share.block, false).times(own_x, x_row(), panel), pair.out.times(z, share.rank, panel)},
        share.rows, out(), {y + share.y, this->width},
        ready || layer_.bias.empty() ? nullptr : layer_.bias.data() + share.block * out(), ready);
  }
}

template <class T>
void LinearOperation<T>::write_pair(Pass<T>& pass, const Share& share, const Sides& first,
                                    const Sides& second) const {
  const TeamKernels<T>& kernels = pass.kernels;
  const int64_t rank = share.rank, rows = share.rows;
  const PairTarget<T>& target = pass.target.pairs[size_t(site_)][size_t(share.client)];
  // The gradient of one factor, [rank, its columns].
  const auto write = [&](bool into, T* to, int64_t columns, bool add) {
    const auto term = [&](const Sides& sides) -> Term<T> {
      const T* left = into ? sides.low_gradient : sides.low;
      const T* right = into ? at(sides.x, share.x) : at(sides.d_y, share.y);
      return {at(right == nullptr ? nullptr : left, share.low),
              1,
              rank,
              rows,
              right,
              into ? x_row() : this->width,
              kernels.panel};
    };
    const std::array terms{term(first), term(second)};
    kernels.product(terms, rank, columns, {to, columns}, nullptr, add);
  };
  // All blocks share `down`.
  write(!backwards_, target.down, backwards_ ? out() : in_, share.block > 0);

  const int64_t columns = backwards_ ? in_ : out();
  const Numbers<T> up = pass.take(rank * columns);
  write(backwards_, up.get(), columns, false);
  T* own_up = target.up + share.block * columns * rank;
  for (int64_t k = 0; k < rank; ++k)
    for (int64_t j = 0; j < columns; ++j) own_up[j * rank + k] = up[size_t(k * columns + j)];
}

template <class T>
void LinearOperation<T>::gradient(Pass<T>& pass) const {
  const TeamKernels<T>& kernels = pass.kernels;
  const int64_t panel = kernels.panel;
  const T* x = this->input(pass.value);
  const T* d_y = this->result(pass.gradient);
  const T* low = this->kept(pass, Kept::low);
  T* low_gradient = this->keep(pass, Kept::low_gradient, low_size(pass));
  Destination<T> d_x;
  if (this->input_is_active[0])
    d_x = this->destination(pass.gradient, pass, 0, pass.batch.rows(this->per) * x_row());
  for (const Share& share : shares(pass)) {
    const Factors pair = factors(share.pair, share.block);
    const T* own_d_y = d_y + share.y;
    T* d_low = low_gradient + share.low;
    if (share.rank > 0) {
      const std::array terms{pair.out_back.times(own_d_y, this->width, panel)};
      kernels.product(terms, share.rows, share.rank, {d_low, share.rank}, nullptr, false);
      weigh(pass, share, d_low);
      write_pair(pass, share, {low_gradient, x, low, d_y}, {});
    }
    if (d_x.data == nullptr) continue;
    product(pass, layer_.gradient[size_t(share.block)], own_d_y, this->width,
            {dense(pass, share.block, true).times(own_d_y, this->width, panel),
             pair.in_back.times(d_low, share.rank, panel)},
            share.rows, in_, {d_x.data + share.x, x_row()}, nullptr, d_x.add);
  }
}

template <class T>
void LinearOperation<T>::tangent(Pass<T>& pass) const {
  const TeamKernels<T>& kernels = pass.kernels;
  const int64_t panel = kernels.panel;
  const T* x = this->input(pass.value);
  const T* t_x = this->input(pass.tangent);  // nullptr: 0
  const T* low = this->kept(pass, Kept::low);
  T* t_y = this->make(pass.tangent, pass);
  T* low_tangent = this->keep(pass, Kept::low_tangent, low_size(pass));
  for (const Share& share : shares(pass)) {
    const Factors pair = factors(share.pair, share.block), along = factors(share.direction, share.block);
    const T* own_t_x = at(t_x, share.x);
    T* t_low = low_tangent + share.low;
    if (share.rank > 0) {
      const std::array terms{along.in.times(x + share.x, x_row(), panel),
                             pair.in.times(own_t_x, x_row(), panel)};
      kernels.product(terms, share.rows, share.rank, {t_low, share.rank}, nullptr, false);
      weigh(pass, share, t_low);
    }
    product(pass, layer_.value[size_t(share.block)], own_t_x, x_row(),
            {dense(pass, share.block, false).times(own_t_x, x_row(), panel),
             pair.out.times(t_low, share.rank, panel), along.out.times(low + share.low, share.rank, panel)},
            share.rows, out(), {t_y + share.y, this->width}, nullptr, false);
  }
}

template <class T>
void LinearOperation<T>::gradient_tangent(Pass<T>& pass) const {
  const TeamKernels<T>& kernels = pass.kernels;
  const int64_t panel = kernels.panel;
  const T* x = this->input(pass.value);
  const T* t_x = this->input(pass.tangent);
  const T* d_y = adapted() ? this->result(pass.gradient) : nullptr;
  const T* t_d_y = this->result(pass.gradient_tangent);
  Destination<T> t_d_x;
  if (this->input_is_active[0])
    t_d_x = this->destination(pass.gradient_tangent, pass, 0, pass.batch.rows(this->per) * x_row());
  const T* low = this->kept(pass, Kept::low);
  const T* low_tangent = this->kept(pass, Kept::low_tangent);
  const T* low_gradient = this->kept(pass, Kept::low_gradient);
  const Numbers<T> both = pass.take(low_size(pass));
  for (const Share& share : shares(pass)) {
    const Factors pair = factors(share.pair, share.block), along = factors(share.direction, share.block);
    const T* own_t_d_y = t_d_y + share.y;
    T* t_d_low = both.get() + share.low;
    if (share.rank > 0) {
      const std::array terms{pair.out_back.times(own_t_d_y, this->width, panel),
                             along.out_back.times(d_y + share.y, this->width, panel)};
      kernels.product(terms, share.rows, share.rank, {t_d_low, share.rank}, nullptr, false);
      weigh(pass, share, t_d_low);
      write_pair(pass, share, {both.get(), x, low, t_d_y}, {low_gradient, t_x, low_tangent, d_y});
    }
    if (t_d_x.data == nullptr) continue;
    product(pass, layer_.gradient[size_t(share.block)], own_t_d_y, this->width,
            {dense(pass, share.block, true).times(own_t_d_y, this->width, panel),
             pair.in_back.times(t_d_low, share.rank, panel),
             along.in_back.times(low_gradient + share.low, share.rank, panel)},
            share.rows, in_, {t_d_x.data + share.x, x_row()}, nullptr, t_d_x.add);
  }
}

template class LinearOperation<float>;
template class LinearOperation<double>;

}  // namespace pf2lora::native
