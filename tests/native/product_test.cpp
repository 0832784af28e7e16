#include <gtest/gtest.h>

#include <array>

#include "native/oracle.h"

namespace pf2lora::native {
namespace {

class Product : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, Product, testing::ValuesIn(supported_processors()), processor_name);

// A [rows, depth] and B [depth, columns] of a term, and what they are stored in.
struct Factors {
  Tensor a, b, a_memory, b_memory;
};

enum class Storage { packed, packed_from_transpose, rows };

template <class T>
Factors make_factors(const Kernels<T>& table, int64_t rows, int64_t depth, int64_t columns, bool transposed,
                     Storage storage) {
  Factors made;
  const auto type = type_of<T>();
  made.a_memory = transposed ? draw({depth, rows + 3}, type) : draw({rows, depth + 5}, type);
  made.a = transposed ? made.a_memory.narrow(1, 0, rows).t() : made.a_memory.narrow(1, 0, depth);
  if (storage == Storage::rows) {
    made.b_memory = draw({depth, columns + table.panel}, type);
    made.b = made.b_memory.narrow(1, 0, columns);
    return made;
  }
  made.b = storage == Storage::packed ? draw({depth, columns}, type) : draw({columns, depth}, type).t();
  made.b_memory = torch::full({table.panels_size(depth, columns)}, NAN, type);
  table.pack_panels(made.b.data_ptr<T>(), made.b.stride(0), made.b.stride(1), depth, columns,
                    data<T>(made.b_memory));
  return made;
}

template <class T>
Term<T> term_of(const Kernels<T>& table, const Factors& factors) {
  const int64_t depth = factors.b.size(0);
  const bool packed = factors.b_memory.dim() == 1;
  return {data<T>(factors.a_memory),
          factors.a.stride(0),
          factors.a.stride(1),
          depth,
          data<T>(factors.b_memory),
          packed ? table.panel : factors.b_memory.stride(0),
          packed ? table.panel * depth : table.panel};
}

constexpr std::array<int64_t, 9> kSizes{0, 1, 5, 8, 12, 13, 31, 40, 67};

// Of the sum of three terms: frozen, low-rank and transposed.
template <class T>
double product_difference(const Kernels<T>& table, int64_t rows, int64_t columns, int64_t depth, bool add) {
  const std::array factors{make_factors(table, rows, depth, columns, false, Storage::packed),
                           make_factors(table, rows, 3, columns, true, Storage::rows),
                           make_factors(table, rows, 7, columns, false, Storage::packed_from_transpose)};
  const std::array terms{term_of(table, factors[0]), Term<T>{}, term_of(table, factors[1]),
                         term_of(table, factors[2])};
  const Tensor bias = rows % 2 == 0 ? draw({columns}, type_of<T>()) : Tensor();
  const Tensor memory = draw({rows, columns + 9}, type_of<T>()), before = memory.clone();
  Tensor expected =
      add ? before.narrow(1, 0, columns).to(torch::kFloat64) : torch::zeros({rows, columns}, torch::kFloat64);
  for (const Factors& f : factors)
    expected = expected + torch::mm(f.a.to(torch::kFloat64), f.b.to(torch::kFloat64));
  if (bias.defined()) expected = expected + bias;
  table.product(terms, rows, columns, {data<T>(memory), memory.stride(0)}, data<T>(bias), add);
  EXPECT_TRUE(same_bits(memory.narrow(1, columns, 9), before.narrow(1, columns, 9)))
      << "columns beyond " << columns << " were written";
  return difference(memory.narrow(1, 0, columns), expected);
}

template <class T>
double worst_product(const Kernels<T>& table) {
  double worst = 0;
  for (const bool add : {false, true})
    for (const int64_t rows : kSizes)
      for (const int64_t columns : kSizes)
        for (const int64_t depth : {0, 1, 10, 37})
          worst = std::max(worst, product_difference(table, rows, columns, depth, add));
  return worst;
}

TEST_P(Product, SumsItsTermsInDouble) {
  EXPECT_LT(worst_product(table<double>()), 1e-14);
}

TEST_P(Product, SumsItsTermsInFloat) {
  EXPECT_LT(worst_product(table<float>()), 3e-6);
}

// In parts of the depth, and blocks of rows and columns.
TEST_P(Product, SumsDeepTerms) {
  for (const bool add : {false, true})
    for (const int64_t rows : {0, 1, 230})
      for (const int64_t columns : {13, 2100}) {
        EXPECT_LT(product_difference(table<double>(), rows, columns, 2500, add), 1e-13);
        EXPECT_LT(product_difference(table<float>(), rows, columns, 2500, add), 2e-5);
      }
}

TEST_P(Product, WithoutTermsIsTheBias) {
  const Tensor c = draw({4, 21}), bias = draw({21}), before = c.clone();
  table().product({}, 4, 21, {data<double>(c), 21}, data<double>(bias), true);
  EXPECT_TRUE(torch::equal(c, before + bias));
  table().product({}, 4, 21, {data<double>(c), 21}, nullptr, false);
  EXPECT_TRUE(torch::equal(c, torch::zeros_like(c)));
}

// Tiles of every height, and both parts of a batch that the cache splits.
TEST_P(Product, RowHasTheSameBitsInAnyCompany) {
  const Kernels<float>& table = this->table<float>();
  constexpr int64_t rows = 230, depth = 1200, columns = 45;  // more rows than one chunk of the cache
  for (const bool transposed : {false, true}) {
    const Factors factors = make_factors(table, rows, depth, columns, transposed, Storage::packed);
    const Tensor bias = draw({columns}, torch::kFloat32);
    const auto product = [&](int64_t first, int64_t count) {
      Term<float> term = term_of(table, factors);
      term.a += first * term.a_row;
      const Tensor c = torch::empty({count, columns}, torch::kFloat32);
      table.product(std::array{term}, count, columns, {data<float>(c), columns}, data<float>(bias), false);
      return c;
    };
    const Tensor all = product(0, rows);
    for (const int64_t count : {1, 2, 3, 5, 11, 12, 13, 29, 100})
      for (int64_t first = 0; first + count <= rows; first += 17)
        ASSERT_TRUE(same_bits(product(first, count), all.narrow(0, first, count)))
            << "rows " << first << " to " << first + count;
  }
}

TEST_P(Product, PanelsHoldEveryElementAndZerosBeyond) {
  const Kernels<float>& table = this->table<float>();
  for (const int64_t columns : {1, 16, 33, 70}) {
    constexpr int64_t depth = 19;
    const Tensor b = draw({depth, columns}, torch::kFloat32), turned = b.t().contiguous();
    const int64_t panels = (columns + table.panel - 1) / table.panel;
    const Tensor first = torch::full({panels, depth, table.panel}, NAN), second = first.clone();
    ASSERT_EQ(table.panels_size(depth, columns), first.numel());
    table.pack_panels(data<float>(b), columns, 1, depth, columns, data<float>(first));
    table.pack_panels(data<float>(turned), 1, depth, depth, columns, data<float>(second));
    const Tensor padded = torch::constant_pad_nd(b, {0, panels * table.panel - columns});
    const Tensor expected = padded.view({depth, panels, table.panel}).transpose(0, 1);
    EXPECT_TRUE(torch::equal(first, expected));
    EXPECT_TRUE(torch::equal(second, expected));
  }
}

}  // namespace
}  // namespace pf2lora::native
