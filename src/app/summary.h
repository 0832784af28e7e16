// What a run prints before its first round with --dry-run, and after its last one.
#pragma once
#include <iosfwd>

#include "simulation/report.h"

namespace pf2lora {

// Placement of groups on ranks, parameters, bytes a round, memory, a forecast of the time, and the
// partition: examples and label figures by client.
void print_plan(std::ostream& out, const RunPlan& plan);

// Accuracy over clients beside the majority class, ranks, the matrix problem's errors, time by phase, files.
// What was not measured is left out.
void print_summary(std::ostream& out, const RunSummary& summary);

}  // namespace pf2lora
