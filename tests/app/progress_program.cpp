// Shows a short run as rank 0 of any launcher does; progress_test.sh looks at what comes out.
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "app/progress.h"

int main(int argc, char** argv) {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (rank != nullptr && std::string(rank) != "0") return 0;
  const auto style = pf2lora::choose_progress(argc > 1 ? argv[1] : "auto", STDOUT_FILENO);
  std::cout << "columns " << style.columns << std::endl;
  const auto display = pf2lora::make_progress(style, std::cout);
  pf2lora::RunPlan plan;
  plan.algorithm = "none";
  plan.rounds = 3;
  display->begin(plan);
  for (int round = 1; round <= 3; ++round) {
    pf2lora::RoundReport report;
    report.round = round;
    report.evaluated = true;
    display->end_round(report);
  }
  display->end({});
}
