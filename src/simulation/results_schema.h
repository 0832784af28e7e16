// The variables of results.h5 (analysis/FORMAT.md is their description for readers).
#pragma once
#include <optional>

#include "io/dataset_file.h"
#include "io/results.h"
#include "simulation/answers.h"
#include "simulation/evaluation.h"
#include "simulation/spectra_table.h"

namespace pf2lora {

struct ResultsShape {
  int64_t clients = 0, processes = 0, segments = 0;
  std::optional<Task> task;          // nullopt in the matrix problem
  std::vector<std::string> classes;  // or what partitions go by; empty in the matrix problem
  bool named_clients = false, permuted_labels = false;
  int64_t train_rows = 0, validation_rows = 0, test_rows = 0;  // of all clients together
  ScoreShape scores;
  SpectraShape spectra;
  AnswerShape answers;
};
ResultsSchema results_schema(const ResultsShape& shape);

}  // namespace pf2lora
