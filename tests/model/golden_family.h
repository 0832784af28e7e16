// The files of tests/golden/make_family_golden.py: a small random model of every family under several
// readouts.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "model/golden_comparison.h"

namespace pf2lora {

inline const std::map<std::string, Task> kTasks = {{"classification", Task::classification},
                                                   {"regression", Task::regression},
                                                   {"span", Task::span},
                                                   {"generation", Task::generation}};

// A golden file of a family, and its models by readout.
struct FamilyFile {
  explicit FamilyFile(const std::string& name)
      : golden(name), directory(golden_directory() + "/" + name), config(read_model_config(directory)) {}

  std::vector<std::string> readouts() const { return golden.file().children("readouts"); }
  GoldenModel model(const std::string& readout) const {
    const std::string group = "readouts/" + readout;
    GoldenModel of{.directory = directory, .targets = kAllTargets, .group = group + "/"};
    if (config.gated) of.targets.push_back("gate");
    of.readout = {.task = kTasks.at(golden.file().attribute<std::string>(group, "task")),
                  .pooling = kPoolings.at(golden.file().attribute<std::string>(group, "pooling")),
                  .dense = golden.file().attribute<bool>(group, "dense")};
    return of;
  }
  std::vector<bool> natives(const std::string& readout) const {
    if (NativeTransformer<double>::covers(config, model(readout).readout)) return {false, true};
    return {false};
  }

  Golden golden;
  std::string directory;
  ModelConfig config;
};

}  // namespace pf2lora
