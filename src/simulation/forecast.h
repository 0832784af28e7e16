// How long a run will take, from a few steps made now: for --dry-run.
#pragma once
#include "comm/communicator.h"
#include "simulation/answers.h"
#include "simulation/evaluation.h"
#include "simulation/placement.h"
#include "simulation/report.h"
#include "simulation/run_state.h"

namespace pf2lora {

// All ranks. Makes some local steps, one evaluation and the answers to one batch of a group on every rank at
// once, on copies, and one all-reduce; `groups` are those of the first round to come, placed. The cost of a
// group is taken to be proportional to its work, and all rounds to be like the first, but for frozen states:
// steps and evaluation are timed on examples that are new and again, and a run computes each example's once
// where they are kept.
RunForecast make_forecast(const Options& options, const Problem& problem, const Algorithm& algorithm,
                          const RunState& state, const std::vector<Group>& groups, const RunPlan& plan,
                          const ScoreShape& scores, const AnswerShape& answers, const Communicator& comm);

}  // namespace pf2lora
