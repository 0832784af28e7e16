#include <gtest/gtest.h>

#include <array>

#include "native/oracle.h"

namespace pf2lora::native {
namespace {

Tensor draw_float(std::vector<int64_t> shape) {
  return draw(std::move(shape), torch::kFloat32);
}

// Products with B in bf16, of each of the tables that may run here.
enum class Form { rounded_by_best, rounded_by_next, sums_of_three };

class Bf16Product : public testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    torch::manual_seed(11);
    const auto rounding = bf16_kernels();
    const size_t place = GetParam() == Form::rounded_by_best ? 0 : 1;
    if (GetParam() == Form::sums_of_three)
      bf16_ = table_.bf16x3;
    else if (place < rounding.size())
      bf16_ = rounding[place];
    if (bf16_ == nullptr) GTEST_SKIP() << "this processor has no such products in bf16";
  }
  bool rounds() const { return GetParam() != Form::sums_of_three; }

  Tensor packed(const Tensor& b) const {
    const Tensor panels =
        torch::full({bf16_->panels_size(b.size(0), b.size(1))}, 0x7fc0 /* NaN */, torch::kInt16);
    bf16_->pack_panels(data<float>(b), b.stride(0), b.stride(1), b.size(0), b.size(1), bf16(panels));
    return panels;
  }
  static Bf16* bf16(const Tensor& numbers) { return reinterpret_cast<Bf16*>(numbers.data_ptr<int16_t>()); }

  // c = a b + terms + bias (+ c).
  void product(const Tensor& a, const Tensor& b, std::span<const Term<float>> terms, const Tensor& bias,
               bool add, Tensor c) const {
    const Tensor panels = packed(b);
    const int64_t rows = a.size(0), depth = a.size(1);
    const Tensor scratch = torch::full({bf16_->scratch(rows, depth)}, std::nanf(""));
    const Bf16Term term{data<float>(a), a.stride(0), depth, bf16(panels)};
    bf16_->product(term, terms, rows, b.size(1), {data<float>(c), c.stride(0)}, data<float>(bias), add,
                   data<float>(scratch));
  }
  Tensor product(const Tensor& a, const Tensor& b) const {
    const Tensor c = torch::full({a.size(0), b.size(1)}, NAN, torch::kFloat32);
    product(a, b, {}, Tensor(), false, c);
    return c;
  }

  const Kernels<float>& table_ = kernels<float>();
  const Bf16Kernels* bf16_ = nullptr;
};

TEST_P(Bf16Product, IsThatOfTheRoundedFactorsOrThatOfTheFactors) {
  for (const int64_t rows : {0, 1, 12, 31, 217})
    for (const int64_t columns : {3, 16, 40, 96})
      for (const int64_t depth : {0, 1, 2, 31, 64, 101, 1536}) {
        const Tensor a_memory = draw_float({rows, depth + 3}), a = a_memory.narrow(1, 0, depth);
        const Tensor b = draw_float({columns, depth}).t();
        const auto rounded = [&](const Tensor& x) {
          return (rounds() ? x.to(torch::kBFloat16) : x).to(torch::kFloat64);
        };
        const Tensor ours = product(a, b);
        EXPECT_LT(difference(ours, torch::mm(rounded(a), rounded(b))), 2e-6);
        if (depth < 30) continue;
        EXPECT_LT(difference(ours, torch::mm(a.to(torch::kFloat64), b.to(torch::kFloat64))), 1e-2);
      }
}

// Whole numbers below 2^8 are exact in bf16, and their sums below 2^24 in float.
TEST_P(Bf16Product, IsExactOnSmallWholeNumbers) {
  const Tensor a = torch::randint(-255, 256, {37, 63}).to(torch::kFloat32);
  const Tensor b = torch::randint(-255, 256, {63, 77}).to(torch::kFloat32);
  EXPECT_TRUE(torch::equal(product(a, b), torch::mm(a, b)));
}

// One number times 1: what rounding makes of it. A half unit in the last place goes to the even neighbour.
TEST_P(Bf16Product, RoundsToNearestEvenOrNotAtAll) {
  const Tensor numbers = torch::cat(
      {torch::tensor({1 + 0x1p-8, 1 + 3 * 0x1p-8, 1 + 0x1p-8 + 0x1p-20, -1 - 0x1p-8}, torch::kFloat32),
       draw_float({1000})});
  const Tensor one = torch::ones({1, 1});
  const Tensor expected = rounds() ? numbers.to(torch::kBFloat16).to(torch::kFloat32) : numbers;
  EXPECT_TRUE(torch::equal(product(numbers.unsqueeze(1), one).squeeze(1), expected));
  EXPECT_TRUE(torch::equal(product(one, numbers.unsqueeze(0)).squeeze(0), expected));
}

TEST_P(Bf16Product, AddsTermsBiasAndWhatIsThere) {
  const Tensor a = draw_float({25, 48}), b = draw_float({48, 37}), low = draw_float({25, 6});
  const Tensor up = draw_float({6, 37 + table_.panel}), bias = draw_float({37});
  const Tensor memory = draw_float({25, 40}), before = memory.clone();
  const std::array terms{Term<float>{},
                         Term<float>{data<float>(low), 6, 1, 6, data<float>(up), up.stride(0), table_.panel}};
  product(a, b, terms, bias, true, memory.narrow(1, 0, 37));
  const Tensor expected = product(a, b).to(torch::kFloat64) + before.narrow(1, 0, 37) + bias +
                          torch::mm(low.to(torch::kFloat64), up.narrow(1, 0, 37).to(torch::kFloat64));
  EXPECT_LT(difference(memory.narrow(1, 0, 37), expected), 2e-6);
  EXPECT_TRUE(same_bits(memory.narrow(1, 37, 3), before.narrow(1, 37, 3)));
}

TEST_P(Bf16Product, RowHasTheSameBitsInAnyCompany) {
  const Tensor a = draw_float({150, 100}), b = draw_float({100, 50}), all = product(a, b);
  for (const int64_t count : {1, 2, 5, 12, 13, 100})
    for (int64_t first = 0; first + count <= 150; first += 13)
      ASSERT_TRUE(same_bits(product(a.narrow(0, first, count), b), all.narrow(0, first, count)));
}

TEST_P(Bf16Product, NumbersThatAreNoneStayNone) {
  Tensor a = draw_float({3, 10}), b = draw_float({10, 5});
  a[1][4] = NAN;
  EXPECT_TRUE(torch::equal(product(a, b).isnan().any(1), torch::tensor({false, true, false})));
  b[2][3] = NAN;
  EXPECT_TRUE(torch::equal(product(draw_float({3, 10}), b).isnan().any(0),
                           torch::tensor({false, false, false, true, false})));
}

// The root of the mean square is below that of the product in float, which adds one number at a time.
TEST_P(Bf16Product, OfSumsOfThreeIsNoLessExactThanInFloat) {
  if (rounds()) GTEST_SKIP() << "it rounds";
  for (const int64_t depth : {32, 384, 1536}) {
    const Tensor a = draw_float({300, depth}), b = draw_float({depth, 64});
    const Tensor exact = torch::mm(a.to(torch::kFloat64), b.to(torch::kFloat64));
    const Tensor panels = torch::empty({table_.panels_size(depth, 64)}), in_float = torch::empty({300, 64});
    table_.pack_panels(data<float>(b), 64, 1, depth, 64, data<float>(panels));
    const std::array terms{Term<float>{data<float>(a), depth, 1, depth, data<float>(panels), table_.panel,
                                       depth * table_.panel}};
    table_.product(terms, 300, 64, {data<float>(in_float), 64}, nullptr, false);
    const auto error = [&](const Tensor& c) {
      return (c.to(torch::kFloat64) - exact).square().mean().sqrt().item<double>();
    };
    EXPECT_LT(error(product(a, b)), error(in_float));
  }
}

INSTANTIATE_TEST_SUITE_P(, Bf16Product,
                         testing::Values(Form::rounded_by_best, Form::rounded_by_next, Form::sums_of_three));

}  // namespace
}  // namespace pf2lora::native
