#include "algorithm/registry.h"

#include <stdexcept>

namespace pf2lora {

// Each is defined in the file of its name.
AlgorithmRow pf2lora(), homlora(), fedit(), local(), centralized();
AlgorithmRow hetlora(), per_fedavg();
AlgorithmRow ffa_lora(), rolora(), fedsa_lora(), flora(), flexlora(), fedex_lora();
AlgorithmRow ditto(), fedper(), fedrep(), feddpa_f(), feddpa_t();
AlgorithmRow fedfmsl(), prompt(), prefix();

const std::vector<AlgorithmRow>& algorithms() {
  static const std::vector<AlgorithmRow> rows = {
      pf2lora(),  homlora(), fedit(),      local(),    centralized(), hetlora(),    per_fedavg(),
      ffa_lora(), rolora(),  fedsa_lora(), flora(),    flexlora(),    fedex_lora(), ditto(),
      fedper(),   fedrep(),  feddpa_f(),   feddpa_t(), fedfmsl(),     prompt(),     prefix()};
  return rows;
}

const AlgorithmRow& find_algorithm(const std::string& name) {
  for (const AlgorithmRow& row : algorithms())
    if (row.name == name) return row;
  throw std::out_of_range("no algorithm is called " + name);
}

}  // namespace pf2lora
