// A LoRA in a folder as PEFT saves it (adapter_config.json and adapter_model.safetensors), as start values.
#pragma once
#include <string>
#include <vector>

#include "core/options.h"
#include "model/model.h"
#include "model/model_config.h"
#include "model/problem.h"

namespace pf2lora {

// The files of such a folder.
std::vector<std::string> start_adapter_files(const std::string& directory);

// Reads options.start_adapter for the sites and the head of `model`: <site>/A [r, in] and <site>/B [out, r],
// and head/... where the folder holds a head, in modules_to_save or, as analysis.export_peft puts it, beside
// the adapter. Where query, key and value are one module, its matrix may be one LoRA of rank r, or one of
// rank r for each of the run's targets among them. Throws InputError for a folder that is damaged, no plain
// LoRA or for another model, and OptionError where rank, scale, sites or head are not those of the run.
Problem::Start read_start_adapter(const Options& options, const ModelConfig& config, const Model& model);

}  // namespace pf2lora
