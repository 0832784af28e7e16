#include "algorithm/registry.h"

#include <stdexcept>

namespace pf2lora {

// Each is defined in the file of its name.
AlgorithmRow pf2lora(), homlora(), fedit(), local(), centralized();

const std::vector<AlgorithmRow>& algorithms() {
  static const std::vector<AlgorithmRow> rows = {pf2lora(), homlora(), fedit(), local(), centralized()};
  return rows;
}

const AlgorithmRow& find_algorithm(const std::string& name) {
  for (const AlgorithmRow& row : algorithms())
    if (row.name == name) return row;
  throw std::out_of_range("no algorithm is called " + name);
}

}  // namespace pf2lora
