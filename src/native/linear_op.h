// A frozen linear layer with the low-rank pairs of its site, y = x (W + dense)^T + b + (w * x down^T) up^T,
// client by client (LoRA, Hu et al. 2022, arXiv 2106.09685).
#pragma once
#include "native/frozen.h"

namespace pf2lora::native {

// Of matrices of one FrozenBlock.
template <class T>
struct FrozenLayer {
  FrozenMatrix<T> transposed;  // [in, out]: x W^T; empty where the product comes ready
  FrozenMatrix<T> plain;       // [out, in]: d_y W; empty where no gradient passes
  std::vector<T> bias;         // [out]
};

template <class T>
class LinearOperation final : public Operation<T> {
 public:
  static constexpr int kNoSite = -1;
  // Input 0 is x [., in]; where there is an input 1, it is x W^T + b. `site` counts the pairs of AdapterView.
  LinearOperation(FrozenLayer<T> layer, int64_t in, int site)
      : layer_(std::move(layer)), in_(in), site_(site) {}

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
  enum Kept { low, low_gradient, low_tangent };  // of x down^T
  struct Share {                                 // of one client
    int64_t client, begin, rows;
    int64_t low;  // where its rows of x down^T begin
    const PackedPair<T>& pair;
    const PackedPair<T>& direction;
  };
  std::vector<Share> shares(const Pass<T>& pass) const;
  int64_t low_size(const Pass<T>& pass) const;
  const PackedWeight<T>& dense(const Pass<T>& pass) const;
  // Multiplies a client's rows of x down^T by their examples' weights.
  void weigh(const Pass<T>& pass, const Share& share, T* rows) const;
  // Writes d_down = left1^T x1 + left2^T x2 and d_up = d_y1^T right1 + d_y2^T right2 of a client's rows.
  struct Factors {
    const T *low_gradient, *x, *low, *d_y;
  };
  void write_pair(Pass<T>& pass, const Share& share, const Factors& first, const Factors& second) const;

  FrozenLayer<T> layer_;
  int64_t in_;
  int site_;
};

}  // namespace pf2lora::native
