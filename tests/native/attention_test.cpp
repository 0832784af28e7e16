#include <gtest/gtest.h>

#include <cmath>

#include "native/oracle.h"

namespace pf2lora::native {
namespace {

class Attention : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, Attention, testing::ValuesIn(supported_processors()), processor_name);

struct AttentionCase {
  std::vector<int64_t> lengths;
  int64_t heads, width;
  int64_t asking = 0;  // rows of each example that ask; 0: all tokens
  bool causal = false;
  int64_t group = 1;  // heads that share keys and values

  int64_t columns() const { return heads * width; }
  int64_t key_columns() const { return columns() / group; }
  std::vector<int64_t> offsets() const {
    std::vector<int64_t> all{0};
    for (const int64_t length : lengths) all.push_back(all.back() + length);
    return all;
  }
  int64_t tokens() const { return offsets().back(); }
  int64_t queries() const { return asking > 0 ? asking * int64_t(lengths.size()) : tokens(); }
  double scale() const { return 1.5 / std::sqrt(double(width)); }
};

// By definition, in matrices of each example and head.
Tensor reference(const AttentionCase& c, const std::vector<Tensor>& in) {
  const auto offsets = c.offsets();
  std::vector<Tensor> rows;
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    const int64_t length = c.lengths[i], asking = c.asking > 0 ? c.asking : length;
    const int64_t first = c.asking > 0 ? int64_t(i) * c.asking : offsets[i];
    std::vector<Tensor> heads;
    for (int64_t h = 0; h < c.heads; ++h) {
      const auto part = [&](const Tensor& x, int64_t row, int64_t count, int64_t head) {
        return x.narrow(0, row, count).narrow(1, head * c.width, c.width);
      };
      const int64_t key_head = h / c.group;
      Tensor scores = torch::mm(part(in[0], first, asking, h), part(in[1], offsets[i], length, key_head).t());
      scores = scores * c.scale();
      if (c.causal) {
        const Tensor later = torch::ones({asking, length}, torch::kBool).triu(1);
        scores = scores.masked_fill(later, -INFINITY);
      }
      heads.push_back(torch::mm(torch::softmax(scores, 1), part(in[2], offsets[i], length, key_head)));
    }
    rows.push_back(torch::cat(heads, 1));
  }
  return torch::cat(rows);
}

// q, k and v stand in wider rows, as in one product for all three; what lies between stays as it was.
template <class T>
struct Columns {
  static constexpr int64_t gap = 3;
  Tensor memory, before;
  int64_t width;
  Columns(const Tensor& numbers)
      : memory(torch::full({numbers.size(0), numbers.size(1) + gap}, NAN, type_of<T>())),
        width(numbers.size(1)) {
    memory.narrow(1, 0, width).copy_(numbers);
  }
  Columns(int64_t rows, int64_t columns) : Columns(torch::full({rows, columns}, NAN)) {}
  Rows<T> out() const { return {data<T>(memory), memory.stride(0)}; }
  Rows<const T> in() const { return {data<T>(memory), memory.stride(0)}; }
  Tensor get() const { return memory.narrow(1, 0, width); }
  bool gap_is_untouched() const { return memory.narrow(1, width, gap).isnan().all().item<bool>(); }
};

template <class T>
struct AttentionResults {
  Tensor out, t_out, weights;
  std::vector<Tensor> gradient, gradient_tangent;  // of q, k, v

  // A direction that is not defined is 0.
  AttentionResults(const Kernels<T>& table, const AttentionCase& c, const std::vector<Tensor>& inputs,
                   const std::vector<Tensor>& direction, const Tensor& pull, const Tensor& pull_direction) {
    const auto offsets = c.offsets();
    const AttentionShape shape{offsets, c.heads, c.width, c.asking, c.causal, c.scale(), c.group};
    const int64_t columns = c.columns(), size = table.attention_weights(shape);
    const auto numbers = [&](int64_t count) { return torch::full({count}, NAN, type_of<T>()); };
    weights = numbers(size);
    const Tensor t_weights = numbers(size), d_scores = numbers(size);
    constexpr int64_t beyond = 4096;
    const Tensor scratch = numbers(table.attention_scratch(shape) + beyond);
    const Columns<T> q(inputs[0]), k(inputs[1]), v(inputs[2]), g(pull), t_g(pull_direction);
    std::vector<Columns<T>> t;
    for (size_t i = 0; i < 3; ++i)
      t.emplace_back(direction[i].defined() ? direction[i] : torch::zeros_like(inputs[i]));
    const auto along = [&](size_t i) { return direction[i].defined() ? t[i].in() : Rows<const T>{}; };
    const Columns<T> y(c.queries(), columns), t_y(c.queries(), columns);
    const int64_t keys = c.key_columns();
    const Columns<T> d[]{{c.queries(), columns}, {c.tokens(), keys}, {c.tokens(), keys}};
    const Columns<T> t_d[]{{c.queries(), columns}, {c.tokens(), keys}, {c.tokens(), keys}};

    T* const memory = data<T>(scratch);
    table.attention(shape, q.in(), k.in(), v.in(), data<T>(weights), y.out(), memory);
    table.attention_gradient(shape, q.in(), k.in(), v.in(), data<T>(weights), g.in(), data<T>(d_scores),
                             d[0].out(), d[1].out(), d[2].out(), memory);
    table.attention_tangent(shape, q.in(), k.in(), v.in(), along(0), along(1), along(2), data<T>(weights),
                            data<T>(t_weights), t_y.out(), memory);
    table.attention_gradient_tangent(shape, q.in(), k.in(), v.in(), along(0), along(1), along(2),
                                     data<T>(weights), data<T>(t_weights), data<T>(d_scores), g.in(),
                                     t_g.in(), t_d[0].out(), t_d[1].out(), t_d[2].out(), memory);
    out = y.get();
    t_out = t_y.get();
    EXPECT_TRUE(y.gap_is_untouched() && t_y.gap_is_untouched());
    EXPECT_TRUE(scratch.slice(0, -beyond).isnan().all().item<bool>())
        << "more scratch was used than was asked for";
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(d[i].gap_is_untouched() && t_d[i].gap_is_untouched());
      gradient.push_back(d[i].get());
      gradient_tangent.push_back(t_d[i].get());
    }
  }
};

// q, k, v as inputs, a direction of each, pull and its direction.
struct Operands {
  std::vector<Tensor> inputs, direction;
  Tensor pull, pull_direction;

  Operands(const AttentionCase& c, torch::ScalarType type) {
    for (std::vector<Tensor>* set : {&inputs, &direction}) {
      set->push_back(1.5 * draw({c.queries(), c.columns()}, type));
      for (int i = 0; i < 2; ++i) set->push_back(1.5 * draw({c.tokens(), c.key_columns()}, type));
    }
    pull = draw({c.queries(), c.columns()}, type);
    pull_direction = draw({c.queries(), c.columns()}, type);
  }
};

std::vector<Tensor> exact(const std::vector<Tensor>& all) {
  std::vector<Tensor> result;
  for (const Tensor& x : all) result.push_back(x.to(torch::kFloat64));
  return result;
}

const std::vector<AttentionCase>& cases() {
  static const std::vector<AttentionCase> all{
      {{1}, 1, 1},
      {{13, 7, 1, 20, 16}, 2, 32},
      {{3, 17, 40}, 3, 8},
      {{5, 33, 2}, 2, 12},
      {{64, 3}, 2, 64},
      {{100, 1}, 1, 50},
      {{13, 7, 1, 20, 16}, 2, 32, /*asking=*/1},
      {{5, 33, 2}, 2, 12, 1},
      {{5, 33, 2}, 1, 24, 3},
      {{2, 1}, 1, 10, 12},
      {{13, 7, 1, 20, 34}, 2, 32, 0, /*causal=*/true},
      {{3, 17}, 3, 5, 0, true},
      {{13, 7, 1, 20, 34}, 6, 32, 0, false, /*group=*/3},
      {{13, 7, 1, 20, 34}, 4, 64, 0, true, 2},
      {{5, 33, 2}, 4, 12, 0, true, 4},
      {{5, 33, 2}, 4, 12, 1, false, 2},
  };
  return all;
}

template <class T>
double worst_attention(const Kernels<T>& table) {
  double worst = 0;
  for (const AttentionCase& c : cases()) {
    const Operands operands(c, type_of<T>());
    const AttentionResults<T> ours(table, c, operands.inputs, operands.direction, operands.pull,
                                   operands.pull_direction);
    const Derivatives theirs = differentiate(
        [&](const auto& in) { return reference(c, in); }, exact(operands.inputs), exact(operands.direction),
        operands.pull.to(torch::kFloat64), operands.pull_direction.to(torch::kFloat64));
    worst = std::max({worst, difference(ours.out, theirs.value), difference(ours.t_out, theirs.tangent)});
    for (size_t i = 0; i < 3; ++i)
      worst = std::max({worst, difference(ours.gradient[i], theirs.gradient[i]),
                        difference(ours.gradient_tangent[i], theirs.gradient_tangent[i])});
    EXPECT_TRUE(std::isfinite(worst)) << c.heads << " heads of " << c.width;
  }
  return worst;
}

TEST_P(Attention, AgreesWithAutogradInDouble) {
  EXPECT_LT(worst_attention(table<double>()), 1e-13);
}

TEST_P(Attention, AgreesWithAutogradInFloat) {
  EXPECT_LT(worst_attention(table<float>()), 1e-5);
}

TEST_P(Attention, MissingDirectionsAreZero) {
  const AttentionCase c{{13, 6}, 2, 20};
  const Operands operands(c, torch::kFloat64);
  for (size_t present = 0; present < 8; ++present) {
    std::vector<Tensor> missing, zeros;
    for (size_t i = 0; i < 3; ++i) {
      const bool there = present >> i & 1;
      missing.push_back(there ? operands.direction[i] : Tensor());
      zeros.push_back(there ? operands.direction[i] : torch::zeros_like(operands.inputs[i]));
    }
    const auto results = [&](const std::vector<Tensor>& direction) {
      return AttentionResults<double>(table(), c, operands.inputs, direction, operands.pull,
                                      operands.pull_direction);
    };
    const AttentionResults<double> ours = results(missing), expected = results(zeros);
    EXPECT_LT(difference(ours.t_out, expected.t_out), 1e-15);
    for (size_t i = 0; i < 3; ++i)
      EXPECT_LT(difference(ours.gradient_tangent[i], expected.gradient_tangent[i]), 1e-15);
  }
}

// The scores of a batch may be of any size: only differences count.
TEST_P(Attention, LargeScoresDoNotOverflow) {
  const AttentionCase c{{20}, 1, 16};
  Operands operands(c, torch::kFloat32);
  operands.inputs[0] *= 300;
  const AttentionResults<float> ours(table<float>(), c, operands.inputs, operands.direction, operands.pull,
                                     operands.pull_direction);
  EXPECT_LT(difference(ours.out, reference(c, exact(operands.inputs))), 1e-3);
  EXPECT_TRUE(ours.gradient_tangent[0].isfinite().all().item<bool>());
}

TEST_P(Attention, ExampleHasTheSameBitsInAnyCompany) {
  for (AttentionCase all :
       {AttentionCase{{13, 7, 30, 16}, 2, 24}, {{13, 7, 30, 16}, 4, 24, 0, /*causal=*/true, /*group=*/2}}) {
    const Operands operands(all, torch::kFloat32);
    const auto results = [&](const AttentionCase& c, int64_t row) {
      const auto part = [&](const Tensor& x) { return x.narrow(0, row, c.tokens()); };
      const auto parts = [&](const std::vector<Tensor>& x) {
        return std::vector{part(x[0]), part(x[1]), part(x[2])};
      };
      return AttentionResults<float>(table<float>(), c, parts(operands.inputs), parts(operands.direction),
                                     part(operands.pull), part(operands.pull_direction));
    };
    const AttentionResults<float> together = results(all, 0);
    for (size_t i = 0; i < all.lengths.size(); ++i) {
      const int64_t row = all.offsets()[i], count = all.lengths[i];
      AttentionCase one = all;
      one.lengths = {count};
      const AttentionResults<float> own = results(one, row);
      EXPECT_TRUE(same_bits(own.out, together.out.narrow(0, row, count)));
      EXPECT_TRUE(same_bits(own.t_out, together.t_out.narrow(0, row, count)));
      for (size_t j = 0; j < 3; ++j) {
        EXPECT_TRUE(same_bits(own.gradient[j], together.gradient[j].narrow(0, row, count)));
        EXPECT_TRUE(same_bits(own.gradient_tangent[j], together.gradient_tangent[j].narrow(0, row, count)));
      }
    }
  }
}

TEST_P(Attention, NoExamplesAndEmptyExamples) {
  const Operands none({{}, 2, 8}, torch::kFloat64);
  const AttentionResults<double> nothing(table(), {{}, 2, 8}, none.inputs, none.direction, none.pull,
                                         none.pull_direction);
  EXPECT_EQ(nothing.out.numel(), 0);
  EXPECT_EQ(nothing.weights.numel(), 0);

  // An example without tokens takes nothing from the others.
  const AttentionCase with{{5, 0, 9}, 2, 8}, without{{5, 9}, 2, 8};
  const Operands operands(with, torch::kFloat64);
  const auto results = [&](const AttentionCase& c) {
    return AttentionResults<double>(table(), c, operands.inputs, operands.direction, operands.pull,
                                    operands.pull_direction);
  };
  EXPECT_TRUE(same_bits(results(with).out, results(without).out));
  EXPECT_TRUE(same_bits(results(with).gradient_tangent[1], results(without).gradient_tangent[1]));
}

}  // namespace
}  // namespace pf2lora::native
