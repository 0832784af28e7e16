#include "app/program.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "algorithm/registry.h"
#include "app/command_line.h"
#include "app/progress.h"
#include "app/summary.h"
#include "app/version.h"
#include "core/stop_signal.h"
#include "data/partition.h"
#include "model/family.h"
#include "native/kernels.h"
#include "simulation/simulate.h"

namespace pf2lora {
namespace {

std::vector<Method> methods() {
  std::vector<Method> result;
  for (const AlgorithmRow& row : algorithms())
    result.push_back({row.name, row.description, row.make_options});
  return result;
}

void print_names(std::ostream& out) {
  ListSection algorithm{"Algorithms (--algorithm)", {}}, partition{"Partitions (--partition)", {}};
  for (const AlgorithmRow& row : algorithms()) algorithm.rows.push_back({row.name, row.description});
  for (const PartitionName& row : partition_names())
    partition.rows.push_back({std::string(row.name), std::string(row.description)});
  const ListSection problem{"Problems (--problem)",
                            {{"transformer", "text with a frozen pretrained transformer"},
                             {"matrix", "low-rank matrices of known rank, the synthetic example"}}};
  ListSection architecture{"Architectures (model_type of config.json)", {}};
  for (const Family& family : families())
    architecture.rows.push_back({family.architecture, family.description});
  const native::Kernels<float>& kernels = native::kernels<float>();
  std::string ours = std::string("ours; on this processor --precision fp32, fp64 (") + kernels.name + ")";
  if (kernels.bf16 != nullptr) ours += std::string(", bf16 (") + kernels.bf16->name + ")";
  if (kernels.bf16x3 != nullptr) ours += std::string(", bf16x3 (") + kernels.bf16x3->name + ")";
  const ListSection backend{"Backends (--backend)",
                            {{"native", ours}, {"reference", "LibTorch's operations"}}};
  print_list(out, {algorithm, partition, problem, architecture, backend});
}

// The plan with --dry-run, progress while it runs, and the summary at its end.
class Display final : public Observer {
 public:
  Display(const Options& options, bool speaks) : speaks_(speaks), dry_run_(options.dry_run) {
    if (speaks_ && !dry_run_) progress_ = make_progress(choose_progress(options.progress, 1), std::cout);
  }
  void begin(const RunPlan& plan) override {
    if (speaks_ && dry_run_) print_plan(std::cout, plan);
    if (progress_) progress_->begin(plan);
  }
  void note(std::string_view message) override {
    if (speaks_ && dry_run_) std::cout << "note: " << message << '\n';
    if (progress_) progress_->note(message);
  }
  void group_done(const GroupProgress& progress) override {
    if (progress_) progress_->group_done(progress);
  }
  void end_round(const RoundReport& report) override {
    if (progress_) progress_->end_round(report);
  }
  void end(const RunSummary& summary) override {
    if (progress_) progress_->end(summary);
    if (speaks_) print_summary(std::cout, summary);
  }

 private:
  bool speaks_, dry_run_;
  std::unique_ptr<Observer> progress_;
};

}  // namespace

ExitCode run_program(std::span<char* const> arguments, const Communicator& comm) {
  install_stop_signals();
  const std::vector<const char*> words(arguments.begin(), arguments.end());
  Invocation invocation;
  comm.together([&] {
    invocation = parse_command_line(words, methods());
    check_partition_name(invocation.options.partition);
  });

  using Action = Invocation::Action;
  if (invocation.action != Action::run) {
    if (!comm.is_root()) return ExitCode::done;
    if (invocation.action == Action::help) print_help(std::cout, methods());
    if (invocation.action == Action::version) print_version(std::cout);
    if (invocation.action == Action::list) print_names(std::cout);
    if (invocation.action == Action::print_config) print_config(std::cout, invocation);
    if (!std::cout.flush()) throw Error(ExitCode::internal_error, "standard output cannot be written to");
    return ExitCode::done;
  }

  const std::string config = recorded_config(invocation);
  std::string config_of_root = config;
  comm.broadcast(config_of_root);
  comm.together([&] {
    if (config != config_of_root)
      throw OptionError("host " + comm.host_name() +
                        " reads other options than rank 0 from the files of --config or of the run to "
                        "resume; put them where every host sees the same");
  });
  Display display(invocation.options, comm.is_root());
  RunRequest request{invocation.options, invocation.method_options.get(), config,
                     program_provenance(invocation.command_line), invocation.typed};
  const RunOutcome outcome = simulate(request, comm, display);
  const Options& options = invocation.options;
  if (outcome.code == ExitCode::checkpointed && comm.is_root())
    std::cerr << "pf2lora: stopped by " << outcome.stopped_by
              << "; everything is saved, go on with --resume --output " << options.output
              << (options.max_hours > 0 ? " (and --max-hours 0 for no time limit)" : "") << std::endl;
  if (outcome.was_complete && comm.is_root())
    std::cout << "the run in " << options.output << " is complete: all " << options.rounds
              << " rounds are done; --resume with more --rounds goes on" << std::endl;
  return outcome.code;
}

void run_process(std::span<char* const> arguments) {
  int exit_code = int(ExitCode::internal_error);
  try {
    const MpiSession session;
    const Communicator& comm = session.communicator();
    try {
      exit_code = int(run_program(arguments, comm));
    } catch (const AgreedError& error) {  // thrown alike on every rank
      exit_code = int(error.code());
      if (comm.is_root()) std::cerr << "pf2lora: " << error.what() << std::endl;
    } catch (const std::exception& error) {  // of this rank alone: the others wait for it
      std::cerr << "pf2lora: rank " << comm.rank() << ": " << error.what() << std::endl;
      comm.abort(exit_code);
    }
  } catch (const std::exception& error) {
    std::cerr << "pf2lora: " << error.what() << std::endl;
  }
  std::cout.flush();
  std::fflush(nullptr);
  std::_Exit(exit_code);
}

}  // namespace pf2lora
