// The table of methods. A method is one file that defines its row, and its line in registry.cpp.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "algorithm/algorithm.h"

namespace pf2lora {

struct AlgorithmRow {
  std::string name;
  std::string description;
  std::unique_ptr<Algorithm> (*make)(const Options&, const OptionSet* own, const Problem&);
  std::unique_ptr<OptionSet> (*make_options)() = nullptr;  // null: no options of its own
  Demands demands = {};
};

const std::vector<AlgorithmRow>& algorithms();

// Throws std::out_of_range where no method has that name.
const AlgorithmRow& find_algorithm(const std::string& name);

}  // namespace pf2lora
