#include "algorithm/algorithm.h"

#include <torch/types.h>

#include "algorithm/row_optimizer.h"

namespace pf2lora {
namespace {

int64_t total_size(const std::vector<Block>& blocks) {
  int64_t size = 0;
  for (const Block& block : blocks) size += block.size;
  return size;
}

void place_start(const ParameterLayout& layout, const Problem::Start& start, torch::Tensor row) {
  for (const Slice& slice : layout.slices())
    if (const auto found = start.find(slice.name); found != start.end())
      row.narrow(0, slice.offset, slice.size).copy_(found->second.flatten());
}

}  // namespace

Predictor predictor_of(const Model& model, std::function<AdapterSet(const Batch&)> adapters) {
  return {.loss = [&model, adapters](const Batch& batch) { return model.loss(batch, adapters(batch)); },
          .scores = [&model,
                     adapters](const Batch& batch) { return model.output(batch, adapters(batch)).values; },
          .texts =
              [&model, adapters](const Batch& batch, const GenerationRules& rules) {
                return model.generate(batch, adapters(batch), rules);
              }};
}

void LossMeter::add(const torch::Tensor& loss, const std::vector<int64_t>& clients, int64_t round,
                    int64_t step, int64_t gradient_evaluations) {
  check_finite(loss, clients, "loss", round, step);
  const auto values = loss.to(torch::kCPU, torch::kFloat64);
  for (size_t g = 0; g < sum_.size(); ++g) sum_[g] += values[int64_t(g)].item<double>();
  gradient_evaluations_ += gradient_evaluations;
}

LocalReport LossMeter::report(int64_t steps) const {
  LocalReport report{sum_, gradient_evaluations_};
  for (double& loss : report.loss) loss /= double(steps);
  return report;
}

std::vector<Block> Algorithm::sent_blocks(int64_t) const {
  if (common_layout_.size() == 0) return {};
  return {{0, common_layout_.size()}};
}

int64_t Algorithm::sum_size(int64_t round) const {
  const int64_t sent = total_size(sent_blocks(round));
  return sent == 0 ? 0 : sent + 1;
}

void Algorithm::contribute(const ClientGroup& group, int64_t round, ExactSum& sum) const {
  const auto blocks = sent_blocks(round);
  if (blocks.empty()) return;
  const torch::Tensor rows = group.common.to(torch::kCPU, torch::kFloat64).contiguous();
  for (size_t g = 0; g < group.clients.size(); ++g) {
    const double share = weight(group.clients[g]);
    const std::span row(rows[int64_t(g)].data_ptr<double>(), size_t(rows.size(1)));
    size_t offset = 0;
    for (const Block& block : blocks) {
      sum.add(offset, row.subspan(size_t(block.offset), size_t(block.size)), share);
      offset += size_t(block.size);
    }
    const double one = 1;
    sum.add(offset, std::span(&one, 1), share);
  }
}

void Algorithm::aggregate(torch::Tensor common, int64_t round, const ExactSum& sum) const {
  const auto blocks = sent_blocks(round);
  if (blocks.empty()) return;
  const double weight = sum.value(size_t(total_size(blocks)));
  size_t offset = 0;
  for (const Block& block : blocks) {
    torch::Tensor total = torch::empty({block.size}, torch::kFloat64);
    sum.values(offset, std::span(total.data_ptr<double>(), size_t(block.size)));
    common.narrow(0, block.offset, block.size).copy_(total / weight);
    offset += size_t(block.size);
  }
}

void Algorithm::start_common(torch::Tensor row) const {
  initial_common(row);
  place_start(common_layout_, problem_.start(), row);
}

void Algorithm::start_client(int64_t client, torch::Tensor row) const {
  initial_client(client, row);
  place_start(client_layout_, problem_.start(), row);
}

std::optional<Predictor> Algorithm::common_predictor(const torch::Tensor& common) const {
  auto adapters = common_model(common);
  if (!adapters) return std::nullopt;
  return predictor_of(problem_.model(), [adapters = std::move(*adapters)](const Batch&) { return adapters; });
}

Predictor Algorithm::personal_predictor(const ClientGroup& group) const {
  return predictor_of(problem_.model(),
                      [adapters = personal_model(group)](const Batch&) { return adapters; });
}

ClientCost Algorithm::cost(const ClientGroup& group, size_t g, int64_t round) const {
  const int64_t sent = total_size(sent_blocks(round));
  return {sent, sent, trained_size(round), client_layout_.size(), deployed_rank(group, g)};
}

int64_t Algorithm::deployed_rank(const ClientGroup& group, size_t) const {
  const int64_t own = client_level(group).level->rank();
  const int64_t pairs =
      combination() == Combination::replaces ? own : common_level(group).level->rank() + own;
  return base_delta(group.common).empty() ? pairs : std::max(pairs, full_rank(problem_.model().sites()));
}

}  // namespace pf2lora
