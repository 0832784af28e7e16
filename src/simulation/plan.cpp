#include "simulation/plan.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "core/option_values.h"
#include "core/text.h"

namespace pf2lora {
namespace {

// Resident memory of a rank of the matrix problem, which has next to no data of its own.
constexpr int64_t kProgramBytes = int64_t{150} << 20;

std::vector<std::string> idle_options(RunRequest& request, const Problem& problem) {
  std::vector<InputFact> facts;
  if (problem.task()) facts.push_back({"task", task_name(*problem.task())});
  return describe_idle(list_options(request.options, request.method_options), request.typed, facts);
}

// Of threads that have to take turns, "" where there are none.
std::string waiting_threads(const RunPlan& plan) {
  const int64_t all = plan.local_ranks * plan.threads;
  if (plan.threads == 1 || all <= plan.local_cores) return "";
  const std::string threads = std::to_string(plan.threads);
  return "the ranks of this machine have " + std::to_string(all) + " threads, with --threads " + threads +
         ", and may run on this many physical cores: " + std::to_string(plan.local_cores) +
         "; threads will take turns; give fewer, or mpirun --map-by slot:PE=" + threads +
         ", sbatch --cpus-per-task=" + threads;
}

// Of ranks that no group is on, "" where there are none.
std::string idle_ranks(const RunPlan& plan) {
  std::vector<int64_t> idle;
  for (size_t rank = 0; rank < plan.groups_by_rank.size(); ++rank)
    if (plan.groups_by_rank[rank] == 0) idle.push_back(int64_t(rank));
  if (idle.empty()) return "";
  return "without a group of clients in round " + std::to_string(plan.first_round) +
         (idle.size() == 1 ? ": rank " : ": ranks ") + shortened_list(idle) +
         "; start fewer ranks, or give a smaller --lockstep or more clients";
}

// Of clients that the draws of the rounds are expected to miss, "" where that is less than one.
std::string undrawn_clients(const RunPlan& plan) {
  const double clients = double(plan.clients - plan.held_out_clients);
  const double missed = clients * std::pow(1 - double(plan.clients_per_round) / clients, double(plan.rounds));
  if (plan.rounds == 0 || missed < 1) return "";
  return "with " + std::to_string(plan.clients_per_round) + " clients a round, about " +
         std::to_string(std::llround(missed)) + " of " + std::to_string(int64_t(clients)) +
         " are drawn in none of the rounds and keep what they start with, which counts in every mean over "
         "clients: took_part in results.h5 tells which; more rounds or a larger --clients-per-round reach "
         "more";
}

// Of clients whose accuracy says nothing, "" where there are none.
std::string single_classes(const Problem& problem, const RunPlan& plan) {
  if (!plan.classified || problem.class_names().size() < 2) return "";
  const std::vector<ClientFigures>& clients = plan.figures.clients;
  const auto single = std::ranges::count(clients, int64_t{1}, &ClientFigures::classes);
  if (single == 0) return "";
  return std::to_string(single) + " of " + std::to_string(clients.size()) +
         " clients hold examples of one class alone, which a personal model need only always answer: see the "
         "majority class beside its accuracy";
}

}  // namespace

RunPlan make_plan(const Options& options, const Problem& problem, const Algorithm& algorithm,
                  const RunState& state, const std::vector<Group>& groups, const Communicator& comm) {
  const int64_t element = int64_t(torch::elementSize(problem.model().options().dtype().toScalarType()));
  const ClientGroup first = state.clients.group({0}, state.common);
  RunPlan plan;
  plan.algorithm = options.algorithm;
  plan.problem = options.problem;
  plan.partition = options.partition;
  plan.output = options.output;
  plan.rounds = options.rounds;
  plan.first_round = state.round + 1;
  plan.clients = options.clients;
  plan.held_out_clients = options.held_out_clients;
  plan.lockstep = options.lockstep;
  plan.ranks = comm.size();
  plan.threads = options.threads;
  plan.local_ranks = comm.local_size();
  plan.local_cores = comm.local_cores();
  plan.backend = problem.model().backend();

  plan.groups_by_rank.assign(size_t(comm.size()), 0);
  plan.work_by_rank.assign(size_t(comm.size()), 0);
  for (const Group& group : groups) {
    plan.clients_per_round += int64_t(group.clients.size());
    ++plan.groups_by_rank[size_t(group.rank)];
    plan.work_by_rank[size_t(group.rank)] += group.work;
  }

  plan.frozen_parameters = problem.model().frozen_parameters();
  plan.common_parameters = algorithm.common_level(first).level->size();
  plan.client_parameters = algorithm.client_level(first).level->size();
  const ClientCost cost = algorithm.cost(first, 0, plan.first_round);
  plan.bytes_up = cost.sent * element;
  plan.bytes_down = cost.received * element;
  const int64_t summed = algorithm.sum_size(plan.first_round);
  plan.bytes_all_reduce = summed == 0 ? 0 : (2 * summed + 1) * int64_t(sizeof(int64_t));

  const int64_t row = algorithm.client_layout().size() * element;
  const int64_t most = (options.clients + comm.size() - 1) / comm.size();
  const auto add = [&](const std::string& what, int64_t bytes) { plan.memory.push_back({what, bytes}); };
  add("program and libraries, about", kProgramBytes);
  add("frozen weights, shared by the ranks of a node",
      plan.frozen_parameters * element + problem.model().packed_bytes());
  add("rows of " + std::to_string(most) + " clients", most * row);
  add("exact sum of a round", plan.bytes_all_reduce);
  if (const int64_t cache = problem.prefix_bytes(); cache > 0)
    add("cached states under the lowest adapter, at most", std::min(cache, options.prefix_cache << 20));

  for (const ClientExamples& client : problem.partition().clients) {
    plan.train_examples.push_back(int64_t(client.train.size()));
    plan.validation_examples.push_back(int64_t(client.validation.size()));
    plan.test_examples.push_back(int64_t(client.test.size()));
  }
  const auto classes = int64_t(problem.class_names().size());
  if (classes > 0) {
    plan.figures = partition_figures(problem.partition(), classes);
    plan.client_names = problem.partition().client_names;
    plan.classified = problem.task() == Task::classification;
  } else {  // the matrix problem has no examples
    plan.train_examples.clear();
    plan.validation_examples.clear();
    plan.test_examples.clear();
  }
  return plan;
}

std::vector<std::string> notes_before(RunRequest& request, const Problem& problem, const Algorithm& algorithm,
                                      const RunState& state, const RunPlan& plan) {
  std::vector<std::string> notes = idle_options(request, problem);
  for (const std::string& note : {waiting_threads(plan), idle_ranks(plan), undrawn_clients(plan)})
    if (!note.empty()) notes.push_back(note);
  notes.insert(notes.end(), problem.partition().notes.begin(), problem.partition().notes.end());
  if (const std::string note = single_classes(problem, plan); !note.empty()) notes.push_back(note);
  const ClientGroup first = state.clients.group({0}, state.common);
  for (const Site& site : algorithm.common_level(first).level->sites()) {
    const int64_t most = std::min(site.rows, site.columns);
    if (request.options.rank <= most) continue;
    notes.push_back("--rank " + std::to_string(request.options.rank) + " is more than " + site.name + " of " +
                    std::to_string(site.rows) + " x " + std::to_string(site.columns) +
                    " can have: an adapter of rank " + std::to_string(most) + " reaches every change of it");
    break;
  }
  if (!problem.partition().label_maps.empty() && !algorithm.client_level(first).level->has_head())
    notes.push_back(
        "labels conflict, but all clients read one common head, which cannot serve them: --head personal, "
        "where the method has it, gives each its own");
  return notes;
}

Texts digests(const Communicator& comm, const Texts& provenance) {
  Texts result;
  for (const std::string name : {"data_sha256", "model_sha256", "start_adapter_sha256"}) {
    std::string digest;
    for (const auto& [key, value] : provenance)
      if (key == name) digest = value;
    comm.broadcast(digest);
    if (!digest.empty()) result.emplace_back(name, digest);
  }
  return result;
}

}  // namespace pf2lora
