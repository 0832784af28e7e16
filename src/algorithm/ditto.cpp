// Ditto-LoRA: a common pair trained as in HOMLoRA, and a pair of each client's own that replaces it for the
// client, held near the common one: v_k <- Opt(v_k, grad f_k(v_k) + lambda (v_k - w)), w as received. A
// client that has not trained yet has the common pair. Li et al., Ditto: Fair and Robust Federated Learning
// Through Personalization, ICML 2021 (arXiv 2012.04221).
#include <torch/types.h>

#include "algorithm/own_copy.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

using torch::Tensor;

struct DittoOptions final : OptionSet {
  double ditto_penalty = 0.1;

  void visit(OptionVisitor& v) override {
    v.option("ditto-penalty", ditto_penalty, "lambda, which holds a client's own pair near the common one",
             at_least(0));
  }
};

class Ditto final : public Algorithm {
 public:
  Ditto(const Options& options, const DittoOptions& own, const Problem& problem)
      : Algorithm(options, problem),
        penalty_(own.ditto_penalty),
        common_(make_level(), Owner::common, common_rule(options), options, common_layout_, client_layout_),
        personal_(make_level(), Owner::client, common_rule(options), options, common_layout_, client_layout_),
        copy_(common_, personal_, client_layout_) {}

  void initial_common(Tensor row) const override {
    common_.initialise(Owner::common, row, KeyedRandom(uint64_t(options_.seed), Purpose::common_initial));
  }
  void initial_client(int64_t, Tensor) const override {}

  LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const override {
    return steps(group, schedule, /*trains_common=*/true);
  }
  // Of the personal pair alone, which is what is deployed.
  LocalReport adapt(ClientGroup& group, const LocalSchedule& schedule) const override {
    return steps(group, schedule, /*trains_common=*/false);
  }

  // The pair that it deploys is one of the two.
  std::optional<AdapterSet> common_model(const Tensor& common) const override {
    return adapters(common_, common_.rows(common, {}));
  }
  AdapterSet personal_model(const ClientGroup& group) const override {
    return adapters(personal_, copy_.rows(group));
  }
  bool is_personal() const override { return true; }
  LevelRows common_level(const ClientGroup& group) const override {
    return {&common_.level(), common_.rows(group)};
  }
  LevelRows client_level(const ClientGroup& group) const override {
    return {&personal_.level(), copy_.rows(group)};
  }
  Combination combination() const override { return Combination::replaces; }

 private:
  Level make_level() const {
    return Level(problem_.model().sites(), options_.rank, problem_.scale(options_.rank), {"A", "B"},
                 problem_.model().head());
  }
  int64_t trained_size(int64_t) const override { return common_.trained_size() + personal_.trained_size(); }

  LocalReport steps(ClientGroup& group, const LocalSchedule& schedule, bool trains_common) const {
    copy_.begin(group);
    LossMeter losses(group.clients.size());
    const auto common_states = common_.states(group), personal_states = personal_.states(group);
    const Tensor received = common_.rows(group).clone();
    for (int64_t i = 0; i < schedule.steps; ++i) {
      const int64_t step = schedule.first_step + i;
      const Batch batch = problem_.training_batch(group.clients, schedule.purpose, schedule.round, step, 0);
      const double rate = scheduled_rate(options_, options_.learning_rate, schedule.round, step);
      const auto [personal_loss, personal_gradient] = gradient(personal_, group, batch);
      losses.add(personal_loss, group.clients, schedule.round, step, trains_common ? 2 : 1);
      if (trains_common) common_.step(group, gradient(common_, group, batch).second, common_states, rate);
      personal_.step(group, personal_gradient + penalty_ * (personal_.rows(group) - received),
                     personal_states, rate);
    }
    return losses.report(schedule.steps);
  }

  static AdapterSet adapters(const TrainedLevel& level, const Tensor& rows) {
    const std::array levels = {&level.level()};
    return compose(levels, std::array{rows});
  }
  std::pair<Tensor, Tensor> gradient(const TrainedLevel& level, const ClientGroup& group,
                                     const Batch& batch) const {
    const Gradient gradient = problem_.model().gradient(batch, adapters(level, level.rows(group)));
    const std::array levels = {&level.level()};
    return {gradient.loss, split(levels, gradient.rows)[0]};
  }

  double penalty_;
  TrainedLevel common_, personal_;
  OwnCopy copy_;
};

}  // namespace

AlgorithmRow ditto() {
  return {
      "ditto", "a common adapter, and each client's own in its place, held near it",
      [](const Options& options, const OptionSet* own, const Problem& problem) -> std::unique_ptr<Algorithm> {
        return std::make_unique<Ditto>(options, dynamic_cast<const DittoOptions&>(*own), problem);
      },
      []() -> std::unique_ptr<OptionSet> { return std::make_unique<DittoOptions>(); }};
}

}  // namespace pf2lora
