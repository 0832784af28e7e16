// A frozen linear layer with the low-rank pairs of its site, y = x (W + dense)^T + b + (w * x down^T) up^T,
// client by client (LoRA, Hu et al. 2022, arXiv 2106.09685).
//
// The rows of W may fall into blocks, such as the heads of attention, that meet different inputs. Block b of
// y is then made of block b of x. Backwards, the blocks of x are multiplied by W itself, y_b = x_b (W_b +
// up_b (w * down)), and there is no bias.
#pragma once
#include "native/frozen.h"

namespace pf2lora::native {

// Of matrices of one FrozenBlock, a block each.
template <class T>
struct FrozenLayer {
  std::vector<FrozenMatrix<T>> value;     // x_b to y_b; empty matrices where the product comes ready
  std::vector<FrozenMatrix<T>> gradient;  // d_y_b to d_x_b; empty ones where no gradient passes
  std::vector<T> bias;                    // of y, or empty: 0
};

template <class T>
class LinearOperation final : public Operation<T> {
 public:
  static constexpr int kNoSite = -1;
  enum class Direction { forwards, backwards };
  // Input 0 is x [., blocks * in]; where there is an input 1, it is y without adapters. `site` counts the
  // pairs of AdapterView.
  LinearOperation(FrozenLayer<T> layer, int64_t in, int site, Direction direction = Direction::forwards)
      : layer_(std::move(layer)),
        blocks_(int64_t(layer_.value.size())),
        in_(in),
        site_(site),
        backwards_(direction == Direction::backwards) {}

  const char* name() const override { return "linear"; }
  void value(Pass<T>& pass) const override;
  void gradient(Pass<T>& pass) const override;
  void tangent(Pass<T>& pass) const override;
  void gradient_tangent(Pass<T>& pass) const override;
  bool adapted() const override { return site_ != kNoSite; }
  bool rereads_inputs() const override { return adapted(); }
  bool rereads_tangents() const override { return adapted(); }
  bool rereads_gradient() const override { return adapted(); }

 private:
  enum Kept { low, low_gradient, low_tangent };  // of what stands between the factors of the pair
  // One block of one client: its rows of x, of y, and of what stands between the factors.
  struct Share {
    int64_t client, block, begin, rows, rank;
    int64_t x, y, low;  // where they begin
    const PackedPair<T>&pair, &direction;
  };
  std::vector<Share> shares(const Pass<T>& pass) const;
  int64_t low_size(const Pass<T>& pass) const;
  int64_t out() const { return this->width / blocks_; }
  int64_t x_row() const { return blocks_ * in_; }

  // The matrices that a block meets: into the rank and out of it, and back again for gradients.
  struct Factors {
    const PackedMatrix<T>&in, &out, &out_back, &in_back;
  };
  Factors factors(const PackedPair<T>& pair, int64_t block) const;
  const PackedMatrix<T>& dense(const Pass<T>& pass, int64_t block, bool gradient) const;
  // Multiplies a share's rows between the factors by their examples' weights.
  void weigh(const Pass<T>& pass, const Share& share, T* rows) const;
  // Writes the gradients of a client's pair: of the factor into the rank left1^T x1 + left2^T x2, of the one
  // out of it right1^T d_y1 + right2^T d_y2.
  struct Sides {
    const T *low_gradient, *x, *low, *d_y;  // of all clients; x of the second may be nullptr: 0
  };
  void write_pair(Pass<T>& pass, const Share& share, const Sides& first, const Sides& second) const;

  FrozenLayer<T> layer_;
  int64_t blocks_, in_;
  int site_;
  bool backwards_;
};

}  // namespace pf2lora::native
