// Per-FedAvg-LoRA: the common adapter is learned as a start from which one gradient step serves each client.
// Fallah et al., Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic Meta-Learning
// Approach, NeurIPS 2020. With batches D1 (slot 1), D2 (slot 0) and D3 (slot 2) of one local step:
//   w~ = w - a grad f(w; D1),  w <- Opt(w, (I - a Hess f(w; D3)) grad f(w~; D2)).
// It is made to be deployed after k gradient steps of rate a: the adapted scores of an evaluation.
#include <torch/types.h>

#include "algorithm/one_level.h"
#include "algorithm/registry.h"

namespace pf2lora {
namespace {

using torch::Tensor;

struct PerFedAvgOptions final : OptionSet {
  std::string meta_gradient = "exact";
  double inner_learning_rate = 0.1;
  double meta_difference_norm = 5e-3;

  void visit(OptionVisitor& v) override {
    v.option(
        "meta-gradient", meta_gradient,
        "Hessian of the meta-gradient: by double backward, by central differences (HF-MAML), or left out",
        one_of({"exact", "finite-difference", "first-order"}));
    v.option("inner-learning-rate", inner_learning_rate,
             "rate of the gradient steps that adapt the common adapter to a client", positive());
    v.option("meta-difference-norm", meta_difference_norm,
             "norm of the step that a difference of --meta-gradient takes, a client", positive());
  }
};

class PerFedAvg final : public OneLevel {
 public:
  PerFedAvg(const Options& options, const PerFedAvgOptions& own, const Problem& problem)
      : OneLevel(options, problem, Owner::common), own_options_(own) {}

  // k gradient steps of rate a.
  LocalReport adapt(ClientGroup& group, const LocalSchedule& schedule) const override {
    LossMeter losses(group.clients.size());
    for (int64_t i = 0; i < schedule.steps; ++i) {
      const int64_t step = schedule.first_step + i;
      const Direction down = gradient(batch(group, schedule, step, 0), group);
      losses.add(down.loss, group.clients, schedule.round, step);
      group = moved(group, down, -own_options_.inner_learning_rate);
    }
    return losses.report(schedule.steps);
  }

 protected:
  Direction direction(const ClientGroup& group, const LocalSchedule& schedule, int64_t step) const override {
    const double a = own_options_.inner_learning_rate;
    const Direction inner = gradient(batch(group, schedule, step, 1), group);
    Direction outer = gradient(batch(group, schedule, step, 0), moved(group, inner, -a));
    outer.gradient_evaluations = 2;
    if (own_options_.meta_gradient == "first-order") return outer;

    const Batch third = batch(group, schedule, step, 2);
    const bool exact = own_options_.meta_gradient == "exact";
    const Direction curvature =
        exact ? hessian_product(third, group, outer) : difference(third, group, outer);
    outer.common = outer.common - a * curvature.common;
    outer.own = outer.own - a * curvature.own;
    outer.gradient_evaluations += 2;
    return outer;
  }

 private:
  // Copies of the group's rows, moved by rate * along.
  ClientGroup moved(const ClientGroup& group, const Direction& along, const Tensor& rate) const {
    ClientGroup result{group.clients, group.common.clone(), group.own.clone()};
    common_.set_rows(result, common_.rows(group) + rate * along.common);
    own_.set_rows(result, own_.rows(group) + rate * along.own);
    return result;
  }
  ClientGroup moved(const ClientGroup& group, const Direction& along, double rate) const {
    return moved(group, along, torch::full({1, 1}, rate, group.common.options()));
  }

  Direction hessian_product(const Batch& batch, const ClientGroup& group, const Direction& v) const {
    const std::array levels = {&common_.level(), &own_.level()};
    const std::array rows = {v.common, v.own};
    const Gradient gradient = problem_.model().gradient(batch, personal_model(group), Keep::pass);
    auto parts = split(levels, problem_.model().tangent(*gradient.pass, compose(levels, rows)));
    return {gradient.loss, parts[0], parts[1]};
  }

  Direction difference(const Batch& batch, const ClientGroup& group, const Direction& v) const {
    const Tensor norm = (v.common.square().sum(1, true) + v.own.square().sum(1, true)).sqrt();
    const Tensor epsilon = own_options_.meta_difference_norm / norm.clamp_min(1e-30);  // [G, 1]
    const Direction ahead = gradient(batch, moved(group, v, epsilon));
    const Direction behind = gradient(batch, moved(group, v, -epsilon));
    return {ahead.loss, (ahead.common - behind.common) / (2 * epsilon),
            (ahead.own - behind.own) / (2 * epsilon)};
  }

  PerFedAvgOptions own_options_;
};

}  // namespace

AlgorithmRow per_fedavg() {
  return {
      "per-fedavg", "one common adapter, learned to be adapted by a few steps (MAML)",
      [](const Options& options, const OptionSet* own, const Problem& problem) -> std::unique_ptr<Algorithm> {
        return std::make_unique<PerFedAvg>(options, dynamic_cast<const PerFedAvgOptions&>(*own), problem);
      },
      []() -> std::unique_ptr<OptionSet> { return std::make_unique<PerFedAvgOptions>(); }};
}

}  // namespace pf2lora
