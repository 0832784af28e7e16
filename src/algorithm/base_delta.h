// A dense update of every adapted matrix in the common row: what aggregations that keep the average of the
// products exact leave beside the pairs. It starts as zeros and is never trained.
#pragma once
#include "algorithm/algorithm.h"

namespace pf2lora {

class BaseDelta {
 public:
  // Appends base_delta/<site> [out, in] of every site to the layout of the common row.
  BaseDelta(const std::vector<Site>& sites, ParameterLayout& common);

  // One a site, [out, in], views of the common rows [G, common layout], which hold G copies of it.
  std::vector<torch::Tensor> updates(const torch::Tensor& common) const;
  Block block() const { return block_; }

 private:
  std::vector<Slice> slices_;  // in the common row
  Block block_;
};

// The exact sum of what clients send of a level when their products are to be averaged: the head, the scaled
// product s B A of every site, and how many clients there are.
int64_t product_sum_size(const Level& level);
// Adds the clients' rows [G, level.size()].
void add_head_and_products(const Level& level, const torch::Tensor& rows, ExactSum& sum);
// The same of the products alone, from number `offset` on.
void add_products(const Level& level, const torch::Tensor& rows, size_t offset, ExactSum& sum);

// The means over clients, in double.
struct ProductAverage {
  torch::Tensor head;                   // [head_block().size]
  std::vector<torch::Tensor> products;  // one a site, [out, in]
};
ProductAverage product_average(const Level& level, const ExactSum& sum);
// The products that were added from number `offset` on, divided by `weight`.
std::vector<torch::Tensor> mean_products(const Level& level, const ExactSum& sum, size_t offset,
                                         double weight);
int64_t products_size(const Level& level);

}  // namespace pf2lora
