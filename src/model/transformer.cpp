#include "model/transformer.h"

#include "core/error.h"
#include "core/option_values.h"
#include "model/family.h"
#include "model/generating_model.h"
#include "model/native_transformer.h"
#include "model/on_device.h"
#include "model/reference_transformer.h"

namespace pf2lora {
namespace {

Pooling pooling(const Options& options, const ModelConfig& config) {
  const std::string chosen = chosen_pooling(options, config);
  return chosen == "cls"      ? Pooling::cls
         : chosen == "pooler" ? Pooling::pooler
         : chosen == "last"   ? Pooling::last
                              : Pooling::mean;
}

Readout readout(const Options& options, const ModelConfig& config, Task task, int64_t classes) {
  const std::string& family = config.family->architecture;
  if (task == Task::generation && !config.causal)
    throw OptionError(options.data + " is for generation, but " + options.model + " is a " + family +
                      ", which sees tokens before they are generated; give a decoder with --model");
  if (options.classifier == "dense" && config.dense_activation.empty())
    throw OptionError("--classifier dense is not offered for a " + family +
                      ", whose head in transformers is linear; leave it at auto");
  const Readout plain{task, pooling(options, config), classes};
  if (!plain.by_example()) return plain;
  const bool dense = !config.dense_activation.empty() && plain.pooling == Pooling::cls;
  return {task, plain.pooling, classes, options.classifier == "auto" ? dense : options.classifier == "dense"};
}

// Whether the native implementation takes the run.
bool takes_native(const Options& options, const Demands& demands, const ModelConfig& config,
                  const Readout& readout) {
  const bool covered = NativeTransformer<float>::covers(config, readout);
  if (options.backend == "native" && !covered)
    throw OptionError("--backend native does not cover " + options.model + ", a " +
                      config.family->architecture + ", for this task; leave it at auto");
  if (options.backend == "native" && demands.prompts)
    throw OptionError("--backend native has no room for the prompts of --algorithm " + options.algorithm +
                      "; leave it at auto, or give --backend reference");
  if (options.backend == "native" && options.device != "cpu")
    throw OptionError("--backend native computes on the processor, not on --device " + options.device +
                      "; leave it at auto, or give --device cpu");
  return options.backend != "reference" && covered && !demands.prompts && options.device == "cpu";
}

// How the native implementation, if it takes the run, keeps the weights of the layers.
native::Storage storage(const Options& options, const Demands& demands, bool native) {
  if (options.precision != "bf16" && options.precision != "bf16x3") return native::Storage::full;
  if (!native)
    throw OptionError("--precision " + options.precision + " is not offered by --backend reference, which " +
                      (options.backend == "reference" ? "was asked for"
                       : options.device != "cpu"      ? "--device " + options.device + " needs"
                       : demands.prompts              ? "--algorithm " + options.algorithm + " needs"
                                                      : "this model needs") +
                      "; give --precision fp32");
  const native::Kernels<float>& kernels = native::kernels<float>();
  const bool rounded = options.precision == "bf16";
  if ((rounded ? kernels.bf16 : kernels.bf16x3) == nullptr)
    throw OptionError("--precision " + options.precision + " needs a processor with " +
                      (rounded ? "AVX512-BF16" : "AMX-BF16") +
                      ", and this one has none; give --precision fp32");
  return rounded ? native::Storage::bf16 : native::Storage::bf16x3;
}

// Whether text is asked for.
bool generates(const Options& options, const Demands& demands, const ModelConfig& config, Task task) {
  const bool generates = task == Task::generation && options.generate_tokens > 0;
  if (generates && demands.prompts && config.position_kind != PositionKind::learned)
    throw OptionError(
        "text is not generated with the prompts of --algorithm " + options.algorithm + " for a " +
        config.family->architecture +
        ", whose tokens have no learned positions; give --generate-tokens 0, or a gpt2 with --model");
  return generates;
}

}  // namespace

std::string chosen_pooling(const Options& options, const ModelConfig& config) {
  if (options.pooling != "auto") return options.pooling;
  return config.causal ? "last" : "cls";
}

std::unique_ptr<Model> make_transformer(const Options& options, const ModelConfig& config, Task task,
                                        int64_t classes, const Demands& demands, int64_t local_rank) {
  const Readout read = readout(options, config, task, classes);
  const bool native = takes_native(options, demands, config, read), wide = options.precision == "fp64";
  const native::Storage stored = storage(options, demands, native);
  const torch::Device device = find_device(options.device, local_rank);
  TransformerWeights weights = read_transformer_weights(
      options.model, config,
      {.pooler = read.by_example() && read.pooling == Pooling::pooler, .scores = task == Task::generation},
      torch::dtype(wide ? torch::kFloat64 : torch::kFloat32).device(device));
  std::vector<Site> sites =
      transformer_sites(config, options.targets, parse_adapted_layers(options.adapted_layers, config.layers));
  const int64_t cache = options.prefix_cache << 20;
  std::unique_ptr<Model> model;
  if (!native)
    model = std::make_unique<ReferenceTransformer>(weights, std::move(sites), read, cache);
  else if (wide)
    model = std::make_unique<NativeTransformer<double>>(weights, std::move(sites), read, cache, stored,
                                                        options.threads);
  else
    model = std::make_unique<NativeTransformer<float>>(weights, std::move(sites), read, cache, stored,
                                                       options.threads);
  if (generates(options, demands, config, task))
    model = std::make_unique<GeneratingModel>(std::move(model), std::move(weights));
  return device.is_cpu() ? std::move(model) : std::make_unique<OnDevice>(std::move(model));
}

}  // namespace pf2lora
