// What a run is going to do, from its checked inputs: for --dry-run, the progress display and the record.
#pragma once
#include "comm/communicator.h"
#include "simulation/placement.h"
#include "simulation/report.h"
#include "simulation/run_state.h"
#include "simulation/simulate.h"

namespace pf2lora {

// All ranks. `groups` are those of the first round to come, placed.
RunPlan make_plan(const Options& options, const Problem& problem, const Algorithm& algorithm,
                  const RunState& state, const std::vector<Group>& groups, const Communicator& comm);

// What the user should know before the first round: typed options without effect, threads without a core,
// ranks without a group, the partition's notes, clients of a single class, a rank that no matrix has, a head
// that cannot serve.
std::vector<std::string> notes_before(RunRequest& request, const Problem& problem, const Algorithm& algorithm,
                                      const RunState& state, const RunPlan& plan);

// All ranks. The digests of data and model among rank 0's provenance, on every rank.
Texts digests(const Communicator& comm, const Texts& provenance);

}  // namespace pf2lora
