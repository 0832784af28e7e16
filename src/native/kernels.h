// The primitives of the native backend, in one table for each kind of processor, chosen when the program
// runs. Every primitive has its value, its gradient, its tangent (the derivative of the value along a
// direction) and the tangent of its gradient. Matrices are row-major; a result row has the same bits whatever
// rows stand beside it, so neither batching nor lockstep changes a number.
#pragma once
#include <cstdint>
#include <span>

namespace pf2lora::native {

// One of the products A B that product() adds up. A [rows, depth] is read with any two strides, so its
// transpose costs nothing. B [depth, columns] stands in panels of Kernels::panel columns: element (k, j) is
// b[j / panel * b_panel + k * b_depth + j % panel], and whole panels must be readable. A row-major B is one
// whose b_depth is its row length and whose b_panel is Kernels::panel. A term without `a` adds nothing.
template <class T>
struct Term {
  const T* a = nullptr;
  int64_t a_row = 0, a_depth = 1;
  int64_t depth = 0;
  const T* b = nullptr;
  int64_t b_depth = 0, b_panel = 0;
};

inline constexpr int64_t kMostTerms = 4;  // of one call of Kernels::product

enum class Activation { gelu, gelu_tanh, relu, silu, tanh };

// Which tokens attend to which: example i of a packed batch holds the rows [offsets[i], offsets[i + 1]) of
// keys and values. Head h reads columns [h * width, (h + 1) * width) of queries, and those of head h / group
// of keys and values (Ainslie et al. 2023, arXiv 2305.13245).
struct AttentionShape {
  std::span<const int64_t> offsets;  // [examples + 1]
  int64_t heads = 1, width = 1;
  int64_t queries = 0;  // rows of each example that ask, [examples * queries, ...]; 0: all its tokens do
  bool causal = false;  // a token attends to itself and those before it
  double scale = 1;     // of q k^T in the softmax
  int64_t group = 1;    // heads that share a head of keys and values
  int64_t examples() const { return int64_t(offsets.size()) - 1; }
};

// Heads side by side in a row, of each of which columns j and j + half turn together, j < half; those from
// 2 * half on stay.
struct RotaryShape {
  int64_t heads = 1, width = 1;
  int64_t half = 0;
};

// A matrix whose rows are `row` numbers apart.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t row = 0;
};

using Bf16 = uint16_t;  // a bf16 number: the upper half of a float

// A [rows, depth] and B as Bf16Kernels::pack_panels wrote it.
struct Bf16Term {
  const float* a = nullptr;
  int64_t a_row = 0;
  int64_t depth = 0;
  const Bf16* b = nullptr;
};

// Products of float32 numbers whose factors become bf16 numbers, or sums of them; their sums are float32.
struct Bf16Kernels {
  const char* name;  // of the instructions
  // Numbers that `to` of pack_panels holds.
  int64_t (*panels_size)(int64_t depth, int64_t columns);
  // B, element (k, j) at from[k * from_depth + j * from_column], in the order in which product() reads it.
  void (*pack_panels)(const float* from, int64_t from_depth, int64_t from_column, int64_t depth,
                      int64_t columns, Bf16* to);
  int64_t (*scratch)(int64_t rows, int64_t depth);  // numbers that a product needs
  // As Kernels::product(), with `bf16` before the terms.
  void (*product)(const Bf16Term& bf16, std::span<const Term<float>> terms, int64_t rows, int64_t columns,
                  Rows<float> c, const float* bias, bool add, float* scratch);
};

// What one step of AdamW multiplies and adds; correction_i = 1 - beta_i^steps, this step counted.
struct AdamwStep {
  double rate, decay;  // decay: 1 - rate * weight decay
  double beta1, beta2, epsilon;
  double correction1, correction2;
};

template <class T>
struct Kernels {
  const char* name;  // of the instruction set
  int64_t panel;     // columns of a panel

  // Numbers that `to` of pack_panels holds: columns rounded up to whole panels, times depth.
  int64_t panels_size(int64_t depth, int64_t columns) const { return panels(columns) * panel * depth; }
  int64_t panels(int64_t columns) const { return (columns + panel - 1) / panel; }
  // B with element (k, j) at from[k * from_depth + j * from_column], as panels one after another
  // (b_depth = panel, b_panel = depth * panel); columns beyond the last are 0.
  void (*pack_panels)(const T* from, int64_t from_depth, int64_t from_column, int64_t depth, int64_t columns,
                      T* to);
  // c [rows, columns] = sum of the terms (at most kMostTerms) + bias [columns] (nullptr: 0) + c where `add`
  // says so.
  void (*product)(std::span<const Term<T>> terms, int64_t rows, int64_t columns, Rows<T> c, const T* bias,
                  bool add);

  // Only in tables of float, and nullptr where the processor has none: products of factors rounded to bf16,
  // and of factors that are sums of three bf16 numbers, as exact as those of float32.
  const Bf16Kernels *bf16 = nullptr, *bf16x3 = nullptr;

  // Layer norm of x = a + b (b may be nullptr), all [rows, width]: normal = (x - mean) * scale with scale
  // [rows] = 1 / sqrt(variance + epsilon), out = gain * normal + shift.
  void (*add_norm)(int64_t rows, int64_t width, const T* a, const T* b, const T* gain, const T* shift,
                   double epsilon, T* normal, T* scale, T* out);
  // d_x, which may be d_out, from that.
  void (*add_norm_gradient)(int64_t rows, int64_t width, const T* d_out, const T* gain, const T* normal,
                            const T* scale, T* d_x);
  // Along t_a + t_b (either may be nullptr: 0).
  void (*add_norm_tangent)(int64_t rows, int64_t width, const T* t_a, const T* t_b, const T* gain,
                           const T* normal, const T* scale, T* t_normal, T* t_scale, T* t_out);
  // The derivative of d_x, where t_d_out is that of d_out; t_d_x may be it.
  void (*add_norm_gradient_tangent)(int64_t rows, int64_t width, const T* d_out, const T* t_d_out,
                                    const T* gain, const T* normal, const T* t_normal, const T* scale,
                                    const T* t_scale, const T* d_x, T* t_d_x);
  // The same without mean and shift (which is not read), RMS norm (Zhang and Sennrich 2019, arXiv
  // 1910.07467): normal = x * scale with scale = 1 / sqrt(mean of x^2 + epsilon), out = gain * normal.
  decltype(add_norm) add_rms_norm;
  decltype(add_norm_gradient) add_rms_norm_gradient;
  decltype(add_norm_tangent) add_rms_norm_tangent;
  decltype(add_norm_gradient_tangent) add_rms_norm_gradient_tangent;

  // out = f(in), slope = f'(in), curvature = f''(in); slope and curvature may be nullptr. out may be in.
  void (*activation)(Activation kind, int64_t count, const T* in, T* out, T* slope, T* curvature);

  // out = a * b, elementwise (+ c * d where c is given, + c * d * e where e is too). out may be any operand.
  void (*multiply)(int64_t count, const T* a, const T* b, const T* c, const T* d, const T* e, T* out);
  // out = a + b, elementwise. out may be either.
  void (*add)(int64_t count, const T* a, const T* b, T* out);

  // out = factor e^(x - z) with z = log of the sum of e^x, which comes back; x [count > 0]. out may be x.
  T (*softmax)(int64_t count, const T* x, T factor, T* out);
  // The derivative along t_x, of which out may be either: factor shares (t_x - sum of shares t_x), where
  // shares is what softmax() makes with factor 1.
  void (*softmax_tangent)(int64_t count, const T* shares, const T* t_x, T factor, T* out);

  // Row i of `in` [rows, heads * width] turned by the angles with row i of cosines and sines [rows, half]:
  // (x, y) becomes (x cos - y sin, y cos + x sin), or, back, what the opposite angles make of it.
  void (*rotate)(const RotaryShape& shape, int64_t rows, const T* in, const T* cosines, const T* sines,
                 bool back, T* out);

  // softmax(scale q k^T) v by example and head. The softmax goes to `weights` [attention_weights(shape)],
  // unless that is nullptr; scratch has attention_scratch(shape) numbers. out has q's shape.
  int64_t (*attention_weights)(const AttentionShape& shape);
  int64_t (*attention_scratch)(const AttentionShape& shape);
  void (*attention)(const AttentionShape& shape, Rows<const T> q, Rows<const T> k, Rows<const T> v,
                    T* weights, Rows<T> out, T* scratch);
  // d_q, d_k, d_v are overwritten, those that have data. d_scores [attention_weights(shape)] is kept for the
  // tangent, unless it is nullptr: what it holds is the kernel's own matter.
  void (*attention_gradient)(const AttentionShape& shape, Rows<const T> q, Rows<const T> k, Rows<const T> v,
                             const T* weights, Rows<const T> d_out, T* d_scores, Rows<T> d_q, Rows<T> d_k,
                             Rows<T> d_v, T* scratch);
  // t_weights [attention_weights(shape)]; t_q, t_k, t_v without data are 0.
  void (*attention_tangent)(const AttentionShape& shape, Rows<const T> q, Rows<const T> k, Rows<const T> v,
                            Rows<const T> t_q, Rows<const T> t_k, Rows<const T> t_v, const T* weights,
                            T* t_weights, Rows<T> t_out, T* scratch);
  void (*attention_gradient_tangent)(const AttentionShape& shape, Rows<const T> q, Rows<const T> k,
                                     Rows<const T> v, Rows<const T> t_q, Rows<const T> t_k, Rows<const T> t_v,
                                     const T* weights, const T* t_weights, const T* d_scores,
                                     Rows<const T> d_out, Rows<const T> t_d_out, Rows<T> t_d_q, Rows<T> t_d_k,
                                     Rows<T> t_d_v, T* scratch);

  // moment1 += (1 - beta1) (gradient - moment1); moment2 = beta2 moment2 + (1 - beta2) gradient^2;
  // row = decay row - rate / correction1 * moment1 / (sqrt(moment2 / correction2) + epsilon); all [count].
  void (*adamw)(int64_t count, const AdamwStep& step, const T* gradient, T* row, T* moment1, T* moment2);
};

enum class Processor { plain, avx2, avx512 };

// Whether this machine can run the table of that kind; `plain` runs anywhere.
bool supported(Processor processor);
// The best that this machine supports.
Processor this_processor();
template <class T>
const Kernels<T>& kernels(Processor processor = this_processor());

// The products of factors rounded to bf16 that this machine has, the best first.
std::span<const Bf16Kernels* const> bf16_kernels();

extern template const Kernels<float>& kernels<float>(Processor);
extern template const Kernels<double>& kernels<double>(Processor);

}  // namespace pf2lora::native
