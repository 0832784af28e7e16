#include "model/packed_rows.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "adapters/random_tensors.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// <spread(x), z> = <x, take(z)>; taking undoes spreading, and each is the other's derivative.
TEST(PackedRows, TakeAndSpreadAreAdjoint) {
  RandomTensors random(1);
  const Tensor rows = torch::tensor({4, 0, 6}, torch::kInt64);
  const Tensor x = random.normal({3, 5}).requires_grad_(), z = random.normal({8, 5}).requires_grad_();
  const Tensor spread = spread_rows(x, rows, 8), taken = take_rows(z, rows);
  EXPECT_NEAR(inner_product(spread, z), inner_product(x, taken), 1e-13);
  EXPECT_TRUE(torch::equal(taken, z.index_select(0, rows)));
  EXPECT_TRUE(torch::equal(take_rows(spread, rows), x));
  EXPECT_EQ(torch::count_nonzero(spread).item<int64_t>(), 15);
  EXPECT_TRUE(torch::equal(torch::autograd::grad({(spread * z).sum()}, {x})[0], taken));
  EXPECT_TRUE(torch::equal(torch::autograd::grad({(taken * x).sum()}, {z})[0], spread));
}

}  // namespace
}  // namespace pf2lora
