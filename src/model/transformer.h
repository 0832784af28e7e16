// The transformer that the options name, in the implementation that --backend names.
#pragma once
#include <memory>
#include <string>

#include "core/options.h"
#include "io/dataset_file.h"
#include "model/model.h"
#include "model/model_config.h"
#include "model/problem.h"

namespace pf2lora {

// The pooling that --pooling names, with auto resolved.
std::string chosen_pooling(const Options& options, const ModelConfig& config);

// Reads the weights in options.model, described by `config`. Throws InputError for the files and OptionError
// where --backend native does not cover what is asked, or --device is not there.
std::unique_ptr<Model> make_transformer(const Options& options, const ModelConfig& config, Task task,
                                        int64_t classes, const Demands& demands, int64_t local_rank);

}  // namespace pf2lora
