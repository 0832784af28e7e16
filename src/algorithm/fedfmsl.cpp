// FedFMSL (FedMS): two experts and a gate, in two stages. Stage 1 trains a global expert (pairs and head) by
// FedAvg, which is frozen then. In stage 2 every client trains a local expert, started from the global one,
// and the outputs of the two forward passes are mixed,
//   logits = w_g logits_g + w_l logits_l,  (w_g, w_l) = softmax(U V h(x)),
// by a gate network on the frozen model's features h whose low-rank gate adapter (U, V) alone is averaged.
// The local expert is sparsely activated: at first its top blocks alone are trained, and one more below them
// is unlocked after a round in which the client's training loss has not fallen by the share
// --activation-trend. Wu et al., FedFMSL: Federated Learning of Foundation Models With Sparsely Activated
// LoRA, 2024, and FedMS (arXiv 2312.15926). Mixing logits, a gate on pooled features and this activation rule
// are ours where the papers could not be consulted.
#include <torch/types.h>

#include <cmath>

#include "algorithm/own_copy.h"
#include "algorithm/registry.h"
#include "core/error.h"

namespace pf2lora {
namespace {

using torch::Tensor;

struct FedFmslOptions final : OptionSet {
  int64_t stage_one_rounds = 0;
  int64_t gate_rank = 4;
  int64_t active_blocks = 1;
  int64_t block_capacity = 0;
  double activation_trend = 0.01;

  void visit(OptionVisitor& v) override {
    v.option("stage-one-rounds", stage_one_rounds, "rounds that train the global expert; 0: half of --rounds",
             at_least(0));
    v.option("gate-rank", gate_rank, "rank of the gate adapter", at_least(1));
    v.option("active-blocks", active_blocks, "blocks of the local expert that are trained from the start",
             at_least(1));
    v.option("block-capacity", block_capacity, "blocks that may become active; 0: all", at_least(0));
    v.option("activation-trend", activation_trend,
             "share by which a client's training loss must fall in a round, or a further block is unlocked",
             at_least(0));
  }
};

class FedFmsl final : public Algorithm {
 public:
  FedFmsl(const Options& options, const FedFmslOptions& own, const Problem& problem)
      : Algorithm(options, problem),
        own_(own),
        global_(make_expert(), Owner::common, common_rule(options), options, common_layout_, client_layout_),
        gate_(make_gate(), Owner::common, common_rule(options), options, common_layout_, client_layout_),
        local_(make_expert(), Owner::client, common_rule(options), options, common_layout_, client_layout_),
        copy_(global_, local_, client_layout_) {
    const auto number = [&](const std::string& name) {
      return client_layout_.slices()[client_layout_.add(name, {1})].offset;
    };
    active_ = number("active_blocks");
    last_loss_ = number("last_loss");
    for (const Site& site : problem.model().sites())
      if (blocks_.empty() || blocks_.back() != site.layer) blocks_.push_back(site.layer);
  }

  void initial_common(Tensor row) const override {
    global_.initialise(Owner::common, row, KeyedRandom(uint64_t(options_.seed), Purpose::common_initial));
    gate_.initialise(Owner::common, row, KeyedRandom(uint64_t(options_.seed), Purpose::gate_initial));
  }
  void initial_client(int64_t, Tensor row) const override {
    row[active_] = double(std::min(own_.active_blocks, capacity()));
  }

  LocalReport local_steps(ClientGroup& group, const LocalSchedule& schedule) const override {
    if (in_stage_one(schedule.round)) return train_global(group, schedule);
    const LocalReport report = train_local(group, schedule);
    for (size_t g = 0; g < group.clients.size(); ++g) {
      const Tensor own = group.own[int64_t(g)];
      const double before = own[last_loss_].item<double>();
      if (before > 0 && report.loss[g] > (1 - own_.activation_trend) * before)
        own[active_] = std::min(own[active_].item<double>() + 1, double(capacity()));
      own[last_loss_] = report.loss[g];
    }
    return report;
  }
  LocalReport adapt(ClientGroup& group, const LocalSchedule& schedule) const override {
    return in_stage_one(schedule.round) ? train_global(group, schedule) : train_local(group, schedule);
  }

  std::vector<Block> sent_blocks(int64_t round) const override {
    return in_stage_one(round) ? global_.common_blocks() : gate_.common_blocks();
  }

  std::optional<AdapterSet> common_model(const Tensor& common) const override {
    return expert(global_, global_.rows(common, {}));
  }
  // The local expert alone.
  AdapterSet personal_model(const ClientGroup& group) const override {
    return expert(local_, copy_.rows(group));
  }
  // The mixture, which is the global expert for clients that have not begun theirs.
  Predictor personal_predictor(const ClientGroup& group) const override {
    const bool mixes = copy_.begun(group).any().item<bool>();
    const AdapterSet global = expert(global_, global_.rows(group)), local = personal_model(group);
    const Model& model = problem_.model();
    if (!mixes) return predictor_of(model, [global](const Batch&) { return global; });
    const auto scores = [this, &model, global, local, gate = gate_.rows(group)](const Batch& batch) {
      return mix(batch, model.output(batch, global), model.output(batch, local), gate).output;
    };
    return {.loss = [&model,
                     scores](const Batch& batch) { return model.output_loss(batch, scores(batch)).examples; },
            .scores = scores};
  }
  // Next tokens are scored by two models.
  bool generates() const override { return false; }
  bool is_personal() const override { return true; }
  bool rounds_matter() const override { return own_.stage_one_rounds == 0; }
  LevelRows common_level(const ClientGroup& group) const override {
    return {&global_.level(), global_.rows(group)};
  }
  LevelRows client_level(const ClientGroup& group) const override {
    return {&local_.level(), copy_.rows(group)};
  }
  Combination combination() const override { return Combination::gated; }

 private:
  Level make_expert() const {
    return Level(problem_.model().sites(), options_.rank, problem_.scale(options_.rank), {"A", "B"},
                 problem_.model().head());
  }
  Level make_gate() const {
    const auto width = problem_.model().feature_width();
    if (!width)
      throw OptionError("--algorithm fedfmsl needs examples, which --problem " + options_.problem +
                        " has not; choose another method or --problem transformer");
    return Level({Site{"gate", "gate", 0, kExperts, *width}}, own_.gate_rank, 1, {"A", "B"},
                 std::nullopt);
  }
  AdapterSet expert(const TrainedLevel& level, const Tensor& rows) const {
    const std::array levels = {&level.level()};
    return compose(levels, std::array{rows});
  }

  bool in_stage_one(int64_t round) const {
    return round <= (own_.stage_one_rounds > 0 ? own_.stage_one_rounds : options_.rounds / 2);
  }
  int64_t capacity() const {
    const auto all = int64_t(blocks_.size());
    return own_.block_capacity > 0 ? std::min(own_.block_capacity, all) : all;
  }
  int64_t trained_size(int64_t round) const override {
    return in_stage_one(round) ? global_.trained_size() : local_.trained_size() + gate_.trained_size();
  }

  LocalReport train_global(ClientGroup& group, const LocalSchedule& schedule) const {
    LossMeter losses(group.clients.size());
    const auto states = global_.states(group);
    const std::array levels = {&global_.level()};
    for (int64_t i = 0; i < schedule.steps; ++i) {
      const int64_t step = schedule.first_step + i;
      const Batch batch = problem_.training_batch(group.clients, schedule.purpose, schedule.round, step, 0);
      const Gradient gradient = problem_.model().gradient(batch, expert(global_, global_.rows(group)));
      losses.add(gradient.loss, group.clients, schedule.round, step);
      global_.step(group, split(levels, gradient.rows)[0], states,
                   scheduled_rate(options_, options_.learning_rate, schedule.round, step));
    }
    return losses.report(schedule.steps);
  }

  LocalReport train_local(ClientGroup& group, const LocalSchedule& schedule) const {
    copy_.begin(group);
    LossMeter losses(group.clients.size());
    const auto gate_states = gate_.states(group), local_states = local_.states(group);
    const std::array levels = {&local_.level()};
    const Tensor unlocked = unlocked_mask(group);
    const Tensor start = local_.rows(group).clone();
    const Model& model = problem_.model();
    for (int64_t i = 0; i < schedule.steps; ++i) {
      const int64_t step = schedule.first_step + i;
      const Batch batch = problem_.training_batch(group.clients, schedule.purpose, schedule.round, step, 0);
      const Output global = model.output(batch, expert(global_, global_.rows(group)));
      const Output local = model.output(batch, personal_model(group), Keep::pass);
      const Mixture mixture = mix(batch, global, local, gate_.rows(group));
      const OutputLoss worth = model.output_loss(batch, mixture.output);
      losses.add(worth.loss, group.clients, schedule.round, step);

      const Tensor local_weight = mixture.of_row(kLocal, local);
      const Tensor expert_gradient =
          split(levels, model.pullback(*local.pass, local_weight * worth.cotangent))[0] * unlocked;
      const double rate = scheduled_rate(options_, options_.learning_rate, schedule.round, step);
      gate_.step(group, gate_gradient(batch, mixture, worth.cotangent, global, local, group),
                 gate_states, rate);
      local_.step(group, expert_gradient, local_states, rate);
      local_.set_rows(group, torch::where(unlocked > 0, local_.rows(group), start));
    }
    return losses.report(schedule.steps);
  }

  // Ones at the head and at the pairs of a client's active blocks, which are its top ones: [G, level size].
  Tensor unlocked_mask(const ClientGroup& group) const {
    const Level& level = local_.level();
    Tensor mask = torch::ones_like(local_.rows(group));
    for (size_t site = 0; site < level.sites().size(); ++site) {
      const auto place = std::find(blocks_.begin(), blocks_.end(), level.sites()[site].layer);
      const double depth = double(blocks_.end() - place);  // 1: the top block
      const Tensor active = group.own.select(1, active_).ge(depth).to(mask.scalar_type()).view({-1, 1, 1});
      level.down(mask, site).mul_(active);
      level.up(mask, site).mul_(active);
    }
    return mask;
  }

  struct Mixture {
    Tensor weights;   // [N, 2]
    Tensor output;    // [S, classes]
    Tensor features;  // [N, width]
    Tensor hidden;    // [N, gate rank] V h
    // The weight of an expert at each row of outputs: [S, 1].
    Tensor of_row(int64_t expert, const Output& rows) const {
      return weights.select(1, expert).index_select(0, rows.example).unsqueeze(1);
    }
  };
  Mixture mix(const Batch& batch, const Output& global, const Output& local, const Tensor& gate) const {
    Mixture mixture;
    mixture.features = problem_.model().features(batch);
    std::vector<Tensor> hidden, scores;
    for (size_t g = 0; g < batch.clients.size(); ++g) {
      hidden.push_back(of_client(mixture.features, batch, g).matmul(down(gate, g).t()));
      scores.push_back(hidden.back().matmul(up(gate, g).t()));
    }
    mixture.hidden = torch::cat(hidden);
    mixture.weights = torch::softmax(torch::cat(scores), 1);
    mixture.output =
        mixture.of_row(kGlobal, global) * global.values + mixture.of_row(kLocal, local) * local.values;
    return mixture;
  }

  // Of the loss whose cotangent at the mixed output is given: [G, gate size].
  Tensor gate_gradient(const Batch& batch, const Mixture& mixture, const Tensor& cotangent,
                       const Output& global, const Output& local, const ClientGroup& group) const {
    const Tensor gate = gate_.rows(group);
    const auto along = [&](const Output& expert) {
      return torch::zeros_like(mixture.weights.select(1, kGlobal))
          .index_add(0, expert.example, (cotangent * expert.values).sum(1));
    };
    const Tensor by_weight = torch::stack({along(global), along(local)}, 1);
    const Tensor by_score =
        mixture.weights * (by_weight - (mixture.weights * by_weight).sum(1, /*keepdim=*/true));  // [N, 2]
    Tensor gradient = torch::zeros_like(gate);
    for (size_t g = 0; g < batch.clients.size(); ++g) {
      const Tensor scores = of_client(by_score, batch, g);
      up(gradient, g).copy_(scores.t().matmul(of_client(mixture.hidden, batch, g)));
      down(gradient, g).copy_(scores.matmul(up(gate, g)).t().matmul(of_client(mixture.features, batch, g)));
    }
    return gradient;
  }

  Tensor down(const Tensor& gate, size_t g) const { return gate_.level().down(gate, 0)[int64_t(g)]; }
  Tensor up(const Tensor& gate, size_t g) const { return gate_.level().up(gate, 0)[int64_t(g)]; }
  static Tensor of_client(const Tensor& examples, const Batch& batch, size_t g) {
    return examples.narrow(0, batch.client_offsets[g], batch.client_offsets[g + 1] - batch.client_offsets[g]);
  }

  static constexpr int64_t kGlobal = 0, kLocal = 1, kExperts = 2;
  FedFmslOptions own_;
  TrainedLevel global_, gate_, local_;
  OwnCopy copy_;
  int64_t active_ = 0, last_loss_ = 0;  // offsets in a client's row
  std::vector<int64_t> blocks_;         // adapted layers, rising
};

}  // namespace

AlgorithmRow fedfmsl() {
  return {
      "fedfmsl", "a global and a local expert, their outputs mixed by a common gate, in two stages",
      [](const Options& options, const OptionSet* own, const Problem& problem) -> std::unique_ptr<Algorithm> {
        return std::make_unique<FedFmsl>(options, dynamic_cast<const FedFmslOptions&>(*own), problem);
      },
      []() -> std::unique_ptr<OptionSet> { return std::make_unique<FedFmslOptions>(); }};
}

}  // namespace pf2lora
