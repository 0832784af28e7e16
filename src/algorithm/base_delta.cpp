#include "algorithm/base_delta.h"

#include <torch/types.h>

namespace pf2lora {

BaseDelta::BaseDelta(const std::vector<Site>& sites, ParameterLayout& common) {
  block_.offset = common.size();
  for (const Site& site : sites)
    slices_.push_back(common.slices()[common.add("base_delta/" + site.name, {site.rows, site.columns})]);
  block_.size = common.size() - block_.offset;
}

std::vector<torch::Tensor> BaseDelta::updates(const torch::Tensor& common) const {
  std::vector<torch::Tensor> updates;
  for (const Slice& slice : slices_) updates.push_back(view(common, slice)[0]);
  return updates;
}

int64_t products_size(const Level& level) {
  int64_t size = 0;
  for (const Site& site : level.sites()) size += site.rows * site.columns;
  return size;
}

int64_t product_sum_size(const Level& level) {
  return level.head_block().size + products_size(level) + 1;
}

void add_products(const Level& level, const torch::Tensor& rows, size_t first, ExactSum& sum) {
  const torch::Tensor wide = rows.to(torch::kCPU, torch::kFloat64);
  for (int64_t g = 0; g < wide.size(0); ++g) {
    size_t offset = first;
    for (size_t site = 0; site < level.sites().size(); ++site) {
      const torch::Tensor product =
          (level.scale() * level.up(wide, site)[g].matmul(level.down(wide, site)[g])).contiguous();
      sum.add(offset, std::span<const double>(product.data_ptr<double>(), size_t(product.numel())), 1);
      offset += size_t(product.numel());
    }
  }
}

void add_head_and_products(const Level& level, const torch::Tensor& rows, ExactSum& sum) {
  const Block head = level.head_block();
  const torch::Tensor heads =
      rows.narrow(1, head.offset, head.size).to(torch::kCPU, torch::kFloat64).contiguous();
  const double one = 1;
  for (int64_t g = 0; g < heads.size(0); ++g) {
    sum.add(0, std::span<const double>(heads[g].data_ptr<double>(), size_t(head.size)), 1);
    add_products(level, rows.narrow(0, g, 1), size_t(head.size), sum);
    sum.add(sum.size() - 1, std::span(&one, 1), 1);
  }
}

std::vector<torch::Tensor> mean_products(const Level& level, const ExactSum& sum, size_t offset,
                                         double weight) {
  std::vector<torch::Tensor> products;
  for (const Site& site : level.sites()) {
    torch::Tensor product = torch::empty({site.rows, site.columns}, torch::kFloat64);
    sum.values(offset, std::span(product.data_ptr<double>(), size_t(product.numel())));
    products.push_back(product / weight);
    offset += size_t(product.numel());
  }
  return products;
}

ProductAverage product_average(const Level& level, const ExactSum& sum) {
  const int64_t head_size = level.head_block().size;
  const double weight = sum.value(sum.size() - 1);
  torch::Tensor head = torch::empty({head_size}, torch::kFloat64);
  sum.values(0, std::span(head.data_ptr<double>(), size_t(head_size)));
  return {head / weight, mean_products(level, sum, size_t(head_size), weight)};
}

}  // namespace pf2lora
