// Kernels whose calls a team of threads shares out.
#pragma once
#include <span>
#include <vector>

#include "native/kernels.h"
#include "native/team.h"

namespace pf2lora::native {

// Calls of Kernels by the same name, shared out by rows, columns or examples: no bit depends on the number of
// threads. What is too small for several is done by one, and so is what Kernels has and this has not.
template <class T>
class TeamKernels : public Kernels<T> {
  using Base = Kernels<T>;
  using In = Rows<const T>;
  using Out = Rows<T>;

 public:
  // The caller's thread alone where there is no team, which is to live as long as this.
  TeamKernels(const Kernels<T>& kernels, Team* team = nullptr) : Base(kernels), team_(team) {}

  void product(std::span<const Term<T>> terms, int64_t rows, int64_t columns, Out c, const T* bias,
               bool add) const;
  // Bf16Kernels::product, for T = float.
  int64_t bf16_scratch(const Bf16Kernels& bf16, int64_t rows, int64_t depth) const;
  void bf16_product(const Bf16Kernels& bf16, const Bf16Term& term, std::span<const Term<float>> terms,
                    int64_t rows, int64_t columns, Rows<float> c, const float* bias, bool add,
                    float* scratch) const;

  // Layer norm where `centred` says so, else RMS norm.
  void add_norm(bool centred, int64_t rows, int64_t width, const T* a, const T* b, const T* gain,
                const T* shift, double epsilon, T* normal, T* scale, T* out) const;
  void add_norm_gradient(bool centred, int64_t rows, int64_t width, const T* d_out, const T* gain,
                         const T* normal, const T* scale, T* d_x) const;
  void add_norm_tangent(bool centred, int64_t rows, int64_t width, const T* t_a, const T* t_b, const T* gain,
                        const T* normal, const T* scale, T* t_normal, T* t_scale, T* t_out) const;
  void add_norm_gradient_tangent(bool centred, int64_t rows, int64_t width, const T* d_out, const T* t_d_out,
                                 const T* gain, const T* normal, const T* t_normal, const T* scale,
                                 const T* t_scale, const T* d_x, T* t_d_x) const;

  void activation(Activation kind, int64_t count, const T* in, T* out, T* slope, T* curvature) const;
  void multiply(int64_t count, const T* a, const T* b, const T* c, const T* d, const T* e, T* out) const;
  void add(int64_t count, const T* a, const T* b, T* out) const;

  int64_t attention_scratch(const AttentionShape& shape) const;
  void attention(const AttentionShape& shape, In q, In k, In v, T* weights, Out out, T* scratch) const;
  void attention_gradient(const AttentionShape& shape, In q, In k, In v, const T* weights, In d_out,
                          T* d_scores, Out d_q, Out d_k, Out d_v, T* scratch) const;
  void attention_tangent(const AttentionShape& shape, In q, In k, In v, In t_q, In t_k, In t_v,
                         const T* weights, T* t_weights, Out t_out, T* scratch) const;
  void attention_gradient_tangent(const AttentionShape& shape, In q, In k, In v, In t_q, In t_k, In t_v,
                                  const T* weights, const T* t_weights, const T* d_scores, In d_out,
                                  In t_d_out, Out t_d_q, Out t_d_k, Out t_d_v, T* scratch) const;

 private:
  // Some examples of a batch: where their queries and what is kept of their scores begin.
  struct Examples {
    AttentionShape shape;
    int64_t first_query = 0, first_weight = 0;
  };
  int64_t threads() const { return team_ == nullptr ? 1 : team_->threads(); }
  // Into how many parts to cut what costs about so many operations on numbers, at most `count`.
  int64_t parts(int64_t cost, int64_t count) const;
  template <class F>
  void share(int64_t count, int64_t cost, const F& f) const;
  std::vector<Examples> examples(const AttentionShape& shape) const;
  template <class F>
  void share_examples(const AttentionShape& shape, T* scratch, const F& f) const;

  Team* team_;
};

extern template class TeamKernels<float>;
extern template class TeamKernels<double>;

}  // namespace pf2lora::native
