// FedDPA: dual adapters, a global pair by FedAvg and a local pair of each client, each trained alone on the
// frozen model, and mixed for every example when it is answered:
//   W_k(x) = W_0 + (1 - a(x)) s B A + a(x) s B_k A_k,  a(x) = weight * mean_i cos(h(x), h(x_i)), within [0,
//   1],
// with h the frozen model's features and x_i training examples of the client (a batch of them).
// feddpa-f trains the global pair first and starts the local pair from it for the last rounds; feddpa-t
// trains both in every round, the global one first. Until then a client's local pair is the global one. Yang
// et al., Dual-Personalizing Adapter for Federated Foundation Models, NeurIPS 2024 (arXiv 2403.19211); the
// head belongs to the global pair unless --head is personal.
#include <torch/types.h>

#include "algorithm/own_copy.h"
#include "algorithm/registry.h"
#include "core/error.h"

namespace pf2lora {
namespace {

using torch::Tensor;

struct FedDpaOptions final : OptionSet {
  std::string instance_weighting = "similarity";
  double local_weight = 1;
  int64_t local_rounds = 0;

  void visit(OptionVisitor& v) override {
    v.option("instance-weighting", instance_weighting,
             "weight of the local pair: local-weight times an example's similarity to the client's training "
             "examples, or local-weight for all",
             one_of({"similarity", "constant"}));
    v.option("local-weight", local_weight, "the largest weight of the local pair", between(0, 1));
    v.option("local-rounds", local_rounds,
             "the last rounds, which feddpa-f trains the local pairs in; 0: a quarter of --rounds",
             at_least(0));
  }
};

enum class Order { global_first, in_turn };

class FedDpa final : public Algorithm {
 public:
  FedDpa(const Options& options, const FedDpaOptions& own, const Problem& problem, Order order)
      : Algorithm(options, problem),
        own_(own),
        order_(order),
        global_(make_level(Owner::common), Owner::common, common_rule(options), options, common_layout_,
                client_layout_),
        local_(make_local()),
        copy_(global_, local_, client_layout_) {
    if (own.instance_weighting == "similarity" && !problem.model().feature_width())
      throw OptionError("--instance-weighting similarity needs examples, which --problem " + options.problem +
                        " has not; choose --instance-weighting constant");
  }

  void initial_common(Tensor row) const override { global_.initialise(Owner::common, row, start()); }
  void initial_client(int64_t, Tensor row) const override { local_.initialise(Owner::client, row, start()); }

  LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const override {
    if (trains_local(schedule.round)) copy_.begin(group);
    if (order_ == Order::in_turn) {
      const LocalReport global = train(global_, group, schedule);
      LocalReport local = train(local_, group, schedule);
      local.gradient_evaluations += global.gradient_evaluations;
      return local;
    }
    return train(trains_global(schedule.round) ? global_ : local_, group, schedule);
  }
  LocalReport adapt(ClientGroup& group, const LocalSchedule& schedule) const override {
    copy_.begin(group);
    return train(local_, group, schedule);
  }

  std::vector<Block> sent_blocks(int64_t round) const override {
    return trains_global(round) ? global_.common_blocks() : std::vector<Block>{};
  }

  std::optional<AdapterSet> common_model(const Tensor& common) const override {
    if (!global_.level().has_head() && problem_.model().head()) return std::nullopt;
    const std::array levels = {&global_.level()};
    return compose(levels, std::array{global_.rows(common, {})});
  }
  // Both pairs, unmixed.
  AdapterSet personal_model(const ClientGroup& group) const override {
    const std::array levels = {&global_.level(), &local_.level()};
    return compose(levels, std::array{global_.rows(group), copy_.rows(group)});
  }
  Predictor personal_predictor(const ClientGroup& group) const override {
    std::vector<Tensor> known;  // [S, width] of each client, of length 1
    if (own_.instance_weighting == "similarity")
      for (int64_t client : group.clients)
        known.push_back(normalised(problem_.training_batch({client}, Purpose::instance_samples, 0, 0, 0)));
    return predictor_of(
        problem_.model(), [this, adapters = personal_model(group), known](const Batch& batch) {
          AdapterSet mixed = adapters;
          const Tensor local = local_weights(batch, known).unsqueeze(1);  // [N, 1]
          const int64_t r = options_.rank;
          mixed.rank_weights = torch::cat({(1 - local).expand({-1, r}), local.expand({-1, r})}, 1);
          return mixed;
        });
  }
  bool is_personal() const override { return true; }
  bool rounds_matter() const override { return order_ != Order::in_turn; }
  LevelRows common_level(const ClientGroup& group) const override {
    return {&global_.level(), global_.rows(group)};
  }
  LevelRows client_level(const ClientGroup& group) const override {
    return {&local_.level(), copy_.rows(group)};
  }
  Combination combination() const override { return Combination::gated; }

 private:
  Level make_level(Owner owner) const {
    return Level(problem_.model().sites(), options_.rank, problem_.scale(options_.rank), {"A", "B"},
                 head_of(owner, options_, problem_));
  }
  // The pair, and the head where it is personal.
  TrainedLevel make_local() {
    const Level level = make_level(Owner::client);
    const int64_t pairs = level.down_block().size + level.up_block().size;
    return {level,
            {{{0, pairs}, Owner::client}, {level.head_block(), Owner::client}},
            common_rule(options_),
            options_,
            common_layout_,
            client_layout_};
  }
  KeyedRandom start() const { return KeyedRandom(uint64_t(options_.seed), Purpose::common_initial); }
  int64_t global_rounds() const {
    const int64_t local = own_.local_rounds > 0 ? own_.local_rounds : (options_.rounds + 3) / 4;
    return std::max<int64_t>(0, options_.rounds - local);
  }
  bool trains_global(int64_t round) const { return order_ == Order::in_turn || round <= global_rounds(); }
  bool trains_local(int64_t round) const { return order_ == Order::in_turn || round > global_rounds(); }
  int64_t trained_size(int64_t round) const override {
    return (trains_global(round) ? global_.trained_size() : 0) +
           local_.trained_size(trains_local(round) ? all_shares() : ShareSet().set(kHead));
  }

  // Local steps on one pair alone. A common head learns with the global pair, a personal one with both.
  LocalReport train(const TrainedLevel& pair, ClientGroup& group, const LocalSchedule& schedule) const {
    LossMeter losses(group.clients.size());
    const auto states = pair.states(group), local_states = local_.states(group);
    const std::array levels = {&global_.level(), &local_.level()};
    const bool is_global = &pair == &global_;
    for (int64_t i = 0; i < schedule.steps; ++i) {
      const int64_t step = schedule.first_step + i;
      const Batch batch = problem_.training_batch(group.clients, schedule.purpose, schedule.round, step, 0);
      AdapterSet adapters = personal_model(group);
      const auto examples = int64_t(batch.examples.size());
      const Tensor on = torch::ones({examples, options_.rank}, group.common.options());
      adapters.rank_weights =
          is_global ? torch::cat({on, torch::zeros_like(on)}, 1) : torch::cat({torch::zeros_like(on), on}, 1);
      const Gradient gradient = problem_.model().gradient(batch, adapters);
      losses.add(gradient.loss, group.clients, schedule.round, step);
      const auto rows = split(levels, gradient.rows);
      const double rate = scheduled_rate(options_, options_.learning_rate, schedule.round, step);
      pair.step(group, rows[is_global ? 0 : 1], states, rate);
      if (is_global) local_.step(group, rows[1], local_states, rate, ShareSet().set(kHead));
    }
    return losses.report(schedule.steps);
  }

  // [S, width] features of length 1.
  Tensor normalised(const Batch& batch) const {
    const Tensor features = problem_.model().features(batch);
    return features / features.norm(2, {1}, true).clamp_min(1e-12);
  }
  // a(x) of every example [N].
  Tensor local_weights(const Batch& batch, const std::vector<Tensor>& known) const {
    if (known.empty())
      return torch::full({int64_t(batch.examples.size())}, own_.local_weight, problem_.model().options());
    const Tensor features = normalised(batch);
    std::vector<Tensor> weights;
    for (size_t g = 0; g < known.size(); ++g) {
      const int64_t first = batch.client_offsets[g];
      const Tensor own = features.narrow(0, first, batch.client_offsets[g + 1] - first);
      // The mean over products, as a product with the mean: row by row, so with the same bits in any batch.
      weights.push_back((own_.local_weight * (own * known[g].mean(0)).sum(1)).clamp(0, 1));
    }
    return torch::cat(weights);
  }

  static constexpr size_t kHead = 1;  // share of the local level
  FedDpaOptions own_;
  Order order_;
  TrainedLevel global_, local_;
  OwnCopy copy_;
};

std::unique_ptr<OptionSet> feddpa_options() {
  return std::make_unique<FedDpaOptions>();
}

}  // namespace

AlgorithmRow feddpa_f() {
  return {
      "feddpa-f", "a global pair, then local pairs started from it, mixed example by example",
      [](const Options& options, const OptionSet* own, const Problem& problem) -> std::unique_ptr<Algorithm> {
        return std::make_unique<FedDpa>(options, dynamic_cast<const FedDpaOptions&>(*own), problem,
                                        Order::global_first);
      },
      feddpa_options};
}

AlgorithmRow feddpa_t() {
  return {
      "feddpa-t", "a global and a local pair in turn each round, mixed example by example",
      [](const Options& options, const OptionSet* own, const Problem& problem) -> std::unique_ptr<Algorithm> {
        return std::make_unique<FedDpa>(options, dynamic_cast<const FedDpaOptions&>(*own), problem,
                                        Order::in_turn);
      },
      feddpa_options};
}

}  // namespace pf2lora
