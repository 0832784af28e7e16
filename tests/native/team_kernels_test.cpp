// Calls that are shared out give the bits of those that are not.
#include "native/team_kernels.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <utility>
#include <vector>

#include "native/oracle.h"

namespace pf2lora::native {
namespace {

template <class T>
class TeamKernelsTest : public testing::Test {
 protected:
  TeamKernelsTest() { torch::manual_seed(3); }

  static Tensor numbers(int64_t rows, int64_t columns) { return draw({rows, columns}, type_of<T>()); }

  // `call` writes to the tensors that it is given, whose shapes are [rows, columns]; by one thread and by
  // three, with the kernels of each kind of processor that this machine can play.
  void expect_same(const std::vector<std::pair<int64_t, int64_t>>& shapes,
                   const std::function<void(const TeamKernels<T>&, const std::vector<Tensor>&)>& call) {
    for (const Processor processor : supported_processors()) {
      SCOPED_TRACE(kernels<T>(processor).name);
      std::vector<std::vector<Tensor>> made;
      for (Team* team : {static_cast<Team*>(nullptr), &three_}) {
        std::vector<Tensor>& out = made.emplace_back();
        for (const auto& [rows, columns] : shapes)
          out.push_back(torch::full({rows, columns}, 0.5, type_of<T>()));
        call(TeamKernels<T>(kernels<T>(processor), team), out);
      }
      for (size_t i = 0; i < shapes.size(); ++i) {
        EXPECT_TRUE(torch::equal(made[0][i], made[1][i])) << "result " << i;
        EXPECT_FALSE(made[0][i].eq(0.5).all().template item<bool>()) << "result " << i << " was not written";
      }
    }
  }

  Team three_{3};
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(TeamKernelsTest, Types);

// B [depth, columns] in panels.
template <class T>
Tensor packed(const Kernels<T>& table, const Tensor& b) {
  const Tensor to = torch::zeros({table.panels_size(b.size(0), b.size(1)) + 64}, b.options());
  table.pack_panels(data<T>(b), b.size(1), 1, b.size(0), b.size(1), data<T>(to));
  return to;
}

template <class T>
Term<T> term(const Kernels<T>& table, const Tensor& a, const Tensor& panels) {
  const int64_t depth = a.size(1);
  return {data<T>(a), depth, 1, depth, data<T>(panels), table.panel, depth * table.panel};
}

// Many rows, many panels, few of both, and a deep product of one row.
const std::vector<std::array<int64_t, 3>> kProducts{
    {217, 100, 384}, {8, 777, 384}, {40, 70, 600}, {3, 5, 7}, {1, 400, 4000}};

TYPED_TEST(TeamKernelsTest, Products) {
  using T = TypeParam;
  for (const auto& [rows, columns, depth] : kProducts) {
    SCOPED_TRACE(testing::Message() << rows << " x " << depth << " x " << columns);
    const int64_t c_row = columns + 3, height = rows, width = columns;
    const Tensor a = this->numbers(rows, depth), low = this->numbers(rows, 5),
                 b = this->numbers(depth, columns), up = this->numbers(5, columns),
                 bias = this->numbers(1, columns + 64);
    for (const bool add : {false, true})
      this->expect_same({{rows, c_row}}, [&](const TeamKernels<T>& own, const auto& out) {
        const Tensor panels = packed<T>(own, b), up_panels = packed<T>(own, up);
        const std::array<Term<T>, 3> terms{{term<T>(own, a, panels), {}, term<T>(own, low, up_panels)}};
        own.product(terms, height, width, {data<T>(out[0]), c_row}, data<T>(bias), add);
      });
  }
}

TEST(TeamKernels, ProductsInBf16) {
  Team three(3);
  const Kernels<float>& table = kernels<float>();
  for (const Bf16Kernels* bf16 : bf16_kernels())
    for (const auto& [rows, columns, depth] : kProducts) {
      SCOPED_TRACE(testing::Message() << bf16->name << " " << rows << " x " << depth << " x " << columns);
      const Tensor a = draw({rows, depth}, torch::kFloat32), b = draw({depth, columns}, torch::kFloat32),
                   low = draw({rows, 5}, torch::kFloat32), up = draw({5, columns}, torch::kFloat32),
                   bias = draw({columns + 64}, torch::kFloat32);
      std::vector<Bf16> panels(size_t(bf16->panels_size(depth, columns)) + 64);
      bf16->pack_panels(data<float>(b), columns, 1, depth, columns, panels.data());
      const Tensor up_panels = packed<float>(table, up);
      const std::array<Term<float>, 1> others{term<float>(table, low, up_panels)};
      std::vector<Tensor> made;
      for (Team* team : {static_cast<Team*>(nullptr), &three}) {
        const TeamKernels<float> own(table, team);
        const Tensor scratch = torch::empty({own.bf16_scratch(*bf16, rows, depth) + 64}, torch::kFloat32);
        made.push_back(torch::ones({rows, columns}, torch::kFloat32));
        own.bf16_product(*bf16, {data<float>(a), depth, depth, panels.data()}, others, rows, columns,
                         {data<float>(made.back()), columns}, data<float>(bias), /*add=*/true,
                         data<float>(scratch));
      }
      EXPECT_TRUE(torch::equal(made[0], made[1]));
      EXPECT_LT(difference(made[0], 1 + torch::mm(a, b) + torch::mm(low, up) + bias.narrow(0, 0, columns)),
                0.02);
    }
}

TYPED_TEST(TeamKernelsTest, Norms) {
  using T = TypeParam;
  const int64_t rows = 301, width = 384;
  const Tensor a = this->numbers(rows, width), b = this->numbers(rows, width), c = this->numbers(rows, width),
               d = this->numbers(rows, width), e = this->numbers(rows, width), gain = this->numbers(1, width),
               shift = this->numbers(1, width), scale = this->numbers(rows, 1),
               t_scale = this->numbers(rows, 1);
  for (const bool centred : {true, false}) {
    this->expect_same({{rows, width}, {rows, 1}, {rows, width}},
                      [&](const TeamKernels<T>& own, const auto& out) {
                        own.add_norm(centred, rows, width, data<T>(a), data<T>(b), data<T>(gain),
                                     data<T>(shift), 1e-5, data<T>(out[0]), data<T>(out[1]), data<T>(out[2]));
                      });
    this->expect_same({{rows, width}}, [&](const TeamKernels<T>& own, const auto& out) {
      own.add_norm_gradient(centred, rows, width, data<T>(a), data<T>(gain), data<T>(b), data<T>(scale),
                            data<T>(out[0]));
    });
    this->expect_same(
        {{rows, width}, {rows, 1}, {rows, width}}, [&](const TeamKernels<T>& own, const auto& out) {
          own.add_norm_tangent(centred, rows, width, data<T>(a), nullptr, data<T>(gain), data<T>(b),
                               data<T>(scale), data<T>(out[0]), data<T>(out[1]), data<T>(out[2]));
        });
    this->expect_same({{rows, width}}, [&](const TeamKernels<T>& own, const auto& out) {
      own.add_norm_gradient_tangent(centred, rows, width, data<T>(a), data<T>(b), data<T>(gain), data<T>(c),
                                    data<T>(d), data<T>(scale), data<T>(t_scale), data<T>(e),
                                    data<T>(out[0]));
    });
  }
}

TYPED_TEST(TeamKernelsTest, NumberByNumber) {
  using T = TypeParam;
  const int64_t count = 200001;
  std::vector<Tensor> in;
  for (int i = 0; i < 5; ++i) in.push_back(this->numbers(1, count));
  this->expect_same({{1, count}, {1, count}, {1, count}}, [&](const TeamKernels<T>& own, const auto& out) {
    own.activation(Activation::gelu, count, data<T>(in[0]), data<T>(out[0]), data<T>(out[1]),
                   data<T>(out[2]));
  });
  this->expect_same({{1, count}}, [&](const TeamKernels<T>& own, const auto& out) {
    own.activation(Activation::tanh, count, data<T>(in[0]), data<T>(out[0]), nullptr, nullptr);
  });
  this->expect_same({{1, count}}, [&](const TeamKernels<T>& own, const auto& out) {
    own.multiply(count, data<T>(in[0]), data<T>(in[1]), data<T>(in[2]), data<T>(in[3]), data<T>(in[4]),
                 data<T>(out[0]));
  });
  this->expect_same({{1, count}}, [&](const TeamKernels<T>& own, const auto& out) {
    own.multiply(count, data<T>(in[0]), data<T>(in[1]), nullptr, nullptr, nullptr, data<T>(out[0]));
  });
  this->expect_same({{1, count}}, [&](const TeamKernels<T>& own, const auto& out) {
    own.add(count, data<T>(in[0]), data<T>(in[1]), data<T>(out[0]));
  });
}

// All tokens ask, or some rows of each example; one example is longer than all others.
TYPED_TEST(TeamKernelsTest, Attention) {
  using T = TypeParam;
  std::vector<int64_t> offsets{0};
  for (const int64_t length : {5, 90, 0, 31, 64, 1, 17, 40}) offsets.push_back(offsets.back() + length);
  for (const auto& [asking_rows, group] : {std::pair<int64_t, int64_t>{0, 1}, {24, 1}, {0, 2}}) {
    const int64_t queries = asking_rows;
    const AttentionShape shape{.offsets = offsets,
                               .heads = 4,
                               .width = 24,
                               .queries = queries,
                               .causal = queries == 0,
                               .scale = 0.2};
    const int64_t row = shape.heads * shape.width, tokens = offsets.back();
    const int64_t asking = queries == 0 ? tokens : queries * shape.examples();
    const int64_t scores = kernels<T>().attention_weights(shape);
    const auto rows = [&](const Tensor& x) { return Rows<const T>{data<T>(x), row}; };
    const auto into = [&](const Tensor& x) { return Rows<T>{data<T>(x), row}; };
    std::vector<Tensor> q, k;
    for (int i = 0; i < 4; ++i) q.push_back(this->numbers(asking + 1, row));
    for (int i = 0; i < 4; ++i) k.push_back(this->numbers(tokens + 1, row));
    const Tensor w = this->numbers(1, scores), t_w = this->numbers(1, scores), d_s = this->numbers(1, scores);
    const auto scratch = [&](const TeamKernels<T>& own) {
      return torch::empty({own.attention_scratch(shape) + 64}, type_of<T>());
    };
    this->expect_same({{1, scores}, {asking, row}}, [&](const TeamKernels<T>& own, const auto& out) {
      own.attention(shape, rows(q[0]), rows(k[0]), rows(k[1]), data<T>(out[0]), into(out[1]),
                    data<T>(scratch(own)));
    });
    this->expect_same({{1, scores}, {asking, row}, {tokens, row}, {tokens, row}},
                      [&](const TeamKernels<T>& own, const auto& out) {
                        own.attention_gradient(shape, rows(q[0]), rows(k[0]), rows(k[1]), data<T>(w),
                                               rows(q[1]), data<T>(out[0]), into(out[1]), into(out[2]),
                                               into(out[3]), data<T>(scratch(own)));
                      });
    this->expect_same({{1, scores}, {asking, row}}, [&](const TeamKernels<T>& own, const auto& out) {
      own.attention_tangent(shape, rows(q[0]), rows(k[0]), rows(k[1]), rows(q[1]), rows(k[2]), {}, data<T>(w),
                            data<T>(out[0]), into(out[1]), data<T>(scratch(own)));
    });
    this->expect_same({{asking, row}, {tokens, row}, {tokens, row}},
                      [&](const TeamKernels<T>& own, const auto& out) {
                        own.attention_gradient_tangent(shape, rows(q[0]), rows(k[0]), rows(k[1]), rows(q[1]),
                                                       rows(k[2]), rows(k[3]), data<T>(w), data<T>(t_w),
                                                       data<T>(d_s), rows(q[2]), rows(q[3]), into(out[0]),
                                                       into(out[1]), into(out[2]), data<T>(scratch(own)));
                      });
  }
}

}  // namespace
}  // namespace pf2lora::native
