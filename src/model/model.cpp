#include "model/model.h"

#include "core/error.h"

namespace pf2lora {

std::string precision_name(const torch::TensorOptions& options) {
  return options.dtype() == torch::kFloat64 ? "fp64" : "fp32";
}

std::vector<std::vector<int32_t>> Model::generate(const Batch&, const AdapterSet&,
                                                  const GenerationRules&) const {
  throw OptionError(
      "this model generates no text; give a gpt2, llama or qwen2 with --model and data for "
      "generation");
}

}  // namespace pf2lora
