// FedRep-LoRA: adapters common and averaged, the head each client's own; in a round first steps on the head
// with the adapters fixed, then local steps on the adapters with the head fixed. Collins et al., Exploiting
// Shared Representations for Personalized Federated Learning, ICML 2021 (arXiv 2102.07078).
#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

struct FedRepOptions final : OptionSet {
  int64_t head_steps = 10;

  void visit(OptionVisitor& v) override {
    v.option("head-steps", head_steps, "steps on the head before the local steps on the adapters, a round",
             at_least(0));
  }
};

class FedRep final : public OneLevel {
 public:
  FedRep(const Options& options, const FedRepOptions& own, const Problem& problem)
      : OneLevel(options, problem, Owner::common), head_steps_(own.head_steps) {}

  LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const override {
    LossMeter losses(group.clients.size()), head_losses(group.clients.size());
    const auto common_states = common_.states(group), own_states = own_.states(group);
    const int64_t round = schedule.round;
    for (int64_t step = 0; step < head_steps_; ++step) {
      const Direction along = gradient(batch(group, schedule, step, kHeadSlot), group);
      head_losses.add(along.loss, group.clients, round, step);
      own_.step(group, along.own, own_states, scheduled_rate(options_, options_.learning_rate, round, step));
    }
    for (int64_t i = 0; i < schedule.steps; ++i) {
      const int64_t step = schedule.first_step + i;
      const Direction along = direction(group, schedule, step);
      losses.add(along.loss, group.clients, round, step);
      common_.step(group, along.common, common_states,
                   scheduled_rate(options_, options_.learning_rate, round, step));
    }
    LocalReport report = losses.report(schedule.steps);
    report.gradient_evaluations += head_steps_;
    return report;
  }

 private:
  static constexpr int64_t kHeadSlot = 1;
  int64_t head_steps_;
};

}  // namespace

AlgorithmRow fedrep() {
  return {
      "fedrep", "as fedper, the head trained before the adapters in each round",
      [](const Options& options, const OptionSet* own, const Problem& problem) -> std::unique_ptr<Algorithm> {
        Options personal = options;
        personal.head = "personal";
        return std::make_unique<FedRep>(personal, dynamic_cast<const FedRepOptions&>(*own), problem);
      },
      []() -> std::unique_ptr<OptionSet> { return std::make_unique<FedRepOptions>(); }};
}

}  // namespace pf2lora
