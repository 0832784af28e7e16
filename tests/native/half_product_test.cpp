#include <gtest/gtest.h>

#include <array>

#include "native/oracle.h"

namespace pf2lora::native {
namespace {

Tensor draw_float(std::vector<int64_t> shape) {
  return draw(std::move(shape), torch::kFloat32);
}

// A product with B in bf16, of each of the tables that may run here.
class HalfProduct : public testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    torch::manual_seed(11);
    if (GetParam() >= half_kernels().size()) GTEST_SKIP() << "this processor has no such products in bf16";
  }
  const HalfKernels& kernels_of_half() const { return *half_kernels()[GetParam()]; }

  Tensor packed(const Tensor& b) const {
    const Tensor panels =
        torch::full({table_.half_panels_size(b.size(0), b.size(1))}, 0x7fc0 /* NaN */, torch::kInt16);
    kernels_of_half().pack_panels(data<float>(b), b.stride(0), b.stride(1), b.size(0), b.size(1),
                                  half(panels));
    return panels;
  }
  static Half* half(const Tensor& numbers) { return reinterpret_cast<Half*>(numbers.data_ptr<int16_t>()); }

  // c = a b + terms + bias (+ c).
  void product(const Tensor& a, const Tensor& b, std::span<const Term<float>> terms, const Tensor& bias,
               bool add, Tensor c) const {
    const Tensor panels = packed(b);
    const int64_t rows = a.size(0), depth = a.size(1);
    const Tensor scratch = torch::full({kernels_of_half().scratch(rows, depth)}, std::nanf(""));
    const HalfTerm term{data<float>(a), a.stride(0), depth, half(panels),
                        table_.half_panels_size(depth, table_.panel)};
    kernels_of_half().product(term, terms, rows, b.size(1), {data<float>(c), c.stride(0)}, data<float>(bias),
                              add, data<float>(scratch));
  }
  Tensor product(const Tensor& a, const Tensor& b) const {
    const Tensor c = torch::full({a.size(0), b.size(1)}, NAN, torch::kFloat32);
    product(a, b, {}, Tensor(), false, c);
    return c;
  }

  const Kernels<float>& table_ = kernels<float>();
};

TEST_P(HalfProduct, IsThatOfTheRoundedFactors) {
  for (const int64_t rows : {0, 1, 12, 31, 217})
    for (const int64_t columns : {3, 16, 40, 96})
      for (const int64_t depth : {0, 1, 2, 31, 64, 101, 1536}) {
        const Tensor a_memory = draw_float({rows, depth + 3}), a = a_memory.narrow(1, 0, depth);
        const Tensor b = draw_float({columns, depth}).t();
        const auto rounded = [](const Tensor& x) { return x.to(torch::kBFloat16).to(torch::kFloat64); };
        const Tensor ours = product(a, b);
        EXPECT_LT(difference(ours, torch::mm(rounded(a), rounded(b))), 2e-6);
        if (depth < 30) continue;
        EXPECT_LT(difference(ours, torch::mm(a.to(torch::kFloat64), b.to(torch::kFloat64))), 1e-2);
      }
}

// Whole numbers below 2^8 are exact in bf16, and their sums below 2^24 in float.
TEST_P(HalfProduct, IsExactOnSmallWholeNumbers) {
  const Tensor a = torch::randint(-255, 256, {37, 63}).to(torch::kFloat32);
  const Tensor b = torch::randint(-255, 256, {63, 77}).to(torch::kFloat32);
  EXPECT_TRUE(torch::equal(product(a, b), torch::mm(a, b)));
}

// One number times 1: what rounding makes of it. A half unit in the last place goes to the even neighbour.
TEST_P(HalfProduct, RoundsToNearestEven) {
  const Tensor numbers = torch::cat(
      {torch::tensor({1 + 0x1p-8, 1 + 3 * 0x1p-8, 1 + 0x1p-8 + 0x1p-20, -1 - 0x1p-8}, torch::kFloat32),
       draw_float({1000})});
  const Tensor one = torch::ones({1, 1}), expected = numbers.to(torch::kBFloat16).to(torch::kFloat32);
  EXPECT_TRUE(torch::equal(product(numbers.unsqueeze(1), one).squeeze(1), expected));
  EXPECT_TRUE(torch::equal(product(one, numbers.unsqueeze(0)).squeeze(0), expected));
}

TEST_P(HalfProduct, AddsTermsBiasAndWhatIsThere) {
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

TEST_P(HalfProduct, RowHasTheSameBitsInAnyCompany) {
  const Tensor a = draw_float({150, 100}), b = draw_float({100, 50}), all = product(a, b);
  for (const int64_t count : {1, 2, 5, 12, 13, 100})
    for (int64_t first = 0; first + count <= 150; first += 13)
      ASSERT_TRUE(same_bits(product(a.narrow(0, first, count), b), all.narrow(0, first, count)));
}

TEST_P(HalfProduct, NumbersThatAreNoneStayNone) {
  Tensor a = draw_float({3, 10}), b = draw_float({10, 5});
  a[1][4] = NAN;
  EXPECT_TRUE(torch::equal(product(a, b).isnan().any(1), torch::tensor({false, true, false})));
  b[2][3] = NAN;
  EXPECT_TRUE(torch::equal(product(draw_float({3, 10}), b).isnan().any(0),
                           torch::tensor({false, false, false, true, false})));
}

INSTANTIATE_TEST_SUITE_P(BestFirst, HalfProduct, testing::Values(0, 1));

}  // namespace
}  // namespace pf2lora::native
