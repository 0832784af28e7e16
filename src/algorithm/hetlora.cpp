// HETLoRA: clients of different rank share one adapter, of which client k uses the first r_k rank-one parts;
// a penalty on the last of them lets a client prune itself, and clients whose update is larger weigh more.
// Cho et al., Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models, EMNLP 2024
// (arXiv 2401.06432). With T_k = parts floor(g r_k) .. r_k:
//   f_k + lambda sum_sites ||B[:, T_k]||_F ||A[T_k, :]||_F,  each norm sqrt(. + 1e-12);
//   r_k <- max(r_min, floor(g r_k)) where the penalty fell over the round;
//   average of a site's A and B with weights ||B_k A_k||_F, or without weights where all of them are 0.
#include <torch/types.h>

#include "algorithm/client_ranks.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

using torch::Tensor;

struct HetLoraOptions final : ClientRankOptions {
  double pruning = 0.99;
  double tail_penalty = 1e-3;
  std::string update_weights = "site";

  void visit(OptionVisitor& v) override {
    ClientRankOptions::visit(v);
    v.option("pruning", pruning, "gamma: the share of its rank that a client keeps when it prunes; 1: never",
             between(0.01, 1));
    v.option("tail-penalty", tail_penalty, "lambda of the penalty on the parts that pruning would remove",
             at_least(0));
    v.option("update-weights", update_weights,
             "weights of the average, by the norm of a client's update: of each site, of all sites together, "
             "or none",
             one_of({"site", "all", "uniform"}));
  }
};

class HetLora final : public MixedRank {
 public:
  HetLora(const Options& options, const HetLoraOptions& own, const Problem& problem)
      : MixedRank(options, problem), own_options_(own), start_(start_ranks(options, own)) {
    rank_offset_ = client_layout_.slices()[client_layout_.add("rank", {1})].offset;
  }

  void initial_client(int64_t client, Tensor row) const override {
    OneLevel::initial_client(client, row);
    row[rank_offset_] = double(start_[size_t(client)]);
  }

  LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const override {
    truncate(group);
    const Tensor before = tail_products(group).first;
    const LocalReport report = OneLevel::local_steps(group, schedule);
    const Tensor fell = tail_products(group).first < before;
    const Tensor pruned =
        (own_options_.pruning * ranks(group)).floor().clamp_min(double(own_options_.min_rank));
    ranks(group).copy_(torch::where(fell, pruned, ranks(group)));
    truncate(group);
    return report;
  }
  LocalReport adapt(ClientGroup& group, const LocalSchedule& schedule) const override {
    truncate(group);
    return OneLevel::local_steps(group, schedule);
  }

  // The weighted common row, the weights by site, the number of clients, and the pairs of weight 0,
  // unweighted.
  int64_t sum_size(int64_t) const override {
    const Level& level = common_.level();
    return common_layout_.size() + int64_t(level.sites().size()) + 1 + level.down_block().size +
           level.up_block().size;
  }
  void contribute(const ClientGroup& group, int64_t, ExactSum& sum) const override {
    const Tensor rows = group.common.to(torch::kCPU, torch::kFloat64).contiguous();
    const Tensor weights = site_weights(group).to(torch::kCPU, torch::kFloat64).contiguous();  // [G, sites]
    const auto& slices = common_layout_.slices();
    const size_t sites = common_.level().sites().size();
    for (size_t g = 0; g < group.clients.size(); ++g) {
      const std::span row(rows[int64_t(g)].data_ptr<double>(), size_t(rows.size(1)));
      const std::span weight(weights[int64_t(g)].data_ptr<double>(), sites);
      const auto add = [&](size_t place, const Slice& slice, double share) {
        sum.add(place + size_t(slice.offset), row.subspan(size_t(slice.offset), size_t(slice.size)), share);
      };
      for (size_t i = 0; i < slices.size(); ++i) add(0, slices[i], i < 2 * sites ? weight[i % sites] : 1);
      sum.add(row.size(), weight, 1);
      const double one = 1;
      sum.add(row.size() + sites, std::span(&one, 1), 1);
      for (size_t i = 0; i < 2 * sites; ++i)
        if (weight[i % sites] == 0) add(row.size() + sites + 1, slices[i], 1);
    }
  }
  void aggregate(Tensor common, int64_t, const ExactSum& sum) const override {
    const size_t sites = common_.level().sites().size(), size = size_t(common_layout_.size());
    const double clients = sum.value(size + sites);
    for (size_t i = 0; i < common_layout_.slices().size(); ++i) {
      const Slice& slice = common_layout_.slices()[i];
      const double weight = i < 2 * sites ? sum.value(size + i % sites) : clients;
      const size_t place = weight > 0 ? 0 : size + sites + 1;
      Tensor values = torch::empty({slice.size}, torch::kFloat64);
      sum.values(place + size_t(slice.offset), std::span(values.data_ptr<double>(), size_t(slice.size)));
      common.narrow(0, slice.offset, slice.size).copy_(values / (weight > 0 ? weight : clients));
    }
  }

 protected:
  Direction direction(const ClientGroup& group, const LocalSchedule& schedule, int64_t step) const override {
    Direction along = OneLevel::direction(group, schedule, step);
    if (own_options_.tail_penalty > 0)
      along.common = along.common + own_options_.tail_penalty * tail_products(group).second;
    return along;
  }

 private:
  // [G], a view
  Tensor ranks(const ClientGroup& group) const override { return group.own.select(1, rank_offset_); }

  // Zeros beyond a client's rank, in its copy of the adapter and in the moments of it.
  void truncate(ClientGroup& group) const {
    const Tensor inside = mask(group);
    common_.set_rows(group, common_.rows(group) * inside);
    for (Tensor& state : common_.states(group))
      for (int64_t moment = 0; moment + inside.size(1) <= state.size(1); moment += inside.size(1))
        state.narrow(1, moment, inside.size(1)).mul_(inside);
  }

  // The penalty of each client [G], and its gradient [G, level size].
  std::pair<Tensor, Tensor> tail_products(const ClientGroup& group) const {
    const Level& level = common_.level();
    const Tensor rows = common_.rows(group), rank = ranks(group);
    const Tensor tail = mask(group) - rank_mask(level, (own_options_.pruning * rank).floor());
    const Tensor parts = rows * tail;
    Tensor sum = torch::zeros_like(rank), gradient = torch::zeros_like(rows);
    for (size_t site = 0; site < level.sites().size(); ++site) {
      const Tensor down = level.down(parts, site), up = level.up(parts, site);
      const Tensor a = (down.square().sum({1, 2}, true) + kSmooth).sqrt();  // [G, 1, 1]
      const Tensor b = (up.square().sum({1, 2}, true) + kSmooth).sqrt();
      sum = sum + (a * b).flatten();
      level.down(gradient, site).copy_(b / a * down);
      level.up(gradient, site).copy_(a / b * up);
    }
    return {sum, gradient};
  }

  // [G, sites]
  Tensor site_weights(const ClientGroup& group) const {
    const Level& level = common_.level();
    const Tensor rows = common_.rows(group);
    std::vector<Tensor> norms;
    for (size_t site = 0; site < level.sites().size(); ++site) {
      const Tensor down = level.down(rows, site).to(torch::kFloat64),
                   up = level.up(rows, site).to(torch::kFloat64);
      // ||B A||_F^2 = sum of (B^T B) * (A A^T)
      norms.push_back((up.transpose(1, 2).matmul(up) * down.matmul(down.transpose(1, 2)))
                          .sum({1, 2})
                          .clamp_min(0)
                          .sqrt());
    }
    const Tensor by_site = torch::stack(norms, 1);
    if (own_options_.update_weights == "site") return by_site;
    if (own_options_.update_weights == "uniform") return torch::ones_like(by_site);
    return by_site.square().sum(1, true).sqrt().expand_as(by_site).contiguous();
  }

  static constexpr double kSmooth = 1e-12;
  HetLoraOptions own_options_;
  std::vector<int64_t> start_;
  int64_t rank_offset_ = 0;
};

}  // namespace

AlgorithmRow hetlora() {
  return {
      "hetlora", "one common adapter of which clients use different ranks, pruned as they learn",
      [](const Options& options, const OptionSet* own, const Problem& problem) -> std::unique_ptr<Algorithm> {
        return std::make_unique<HetLora>(options, dynamic_cast<const HetLoraOptions&>(*own), problem);
      },
      []() -> std::unique_ptr<OptionSet> { return std::make_unique<HetLoraOptions>(); }};
}

}  // namespace pf2lora
