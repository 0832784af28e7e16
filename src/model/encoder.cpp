#include "model/encoder.h"

#include "core/error.h"
#include "core/option_values.h"
#include "model/native_encoder.h"
#include "model/on_device.h"
#include "model/reference_encoder.h"

namespace pf2lora {
namespace {

Pooling pooling(const std::string& name) {
  return name == "cls" ? Pooling::cls : name == "pooler" ? Pooling::pooler : Pooling::mean;
}

// Whether the native implementation takes the run.
bool takes_native(const Options& options, const Demands& demands) {
  if (options.backend == "native" && demands.prompts)
    throw OptionError("--backend native has no room for the prompts of --algorithm " + options.algorithm +
                      "; leave it at auto, or give --backend reference");
  if (options.backend == "native" && options.device != "cpu")
    throw OptionError("--backend native computes on the processor, not on --device " + options.device +
                      "; leave it at auto, or give --device cpu");
  return options.backend != "reference" && !demands.prompts && options.device == "cpu";
}

// How the native implementation, if it takes the run, keeps the weights of the layers.
native::Storage storage(const Options& options, bool native) {
  if (options.precision != "bf16") return native::Storage::full;
  if (!native)
    throw OptionError("--precision bf16 is not offered by --backend reference, which " +
                      (options.backend == "reference" ? "was asked for"
                       : options.device != "cpu"      ? "--device " + options.device + " needs"
                                                      : "--algorithm " + options.algorithm + " needs") +
                      "; give --precision fp32");
  if (native::kernels<float>().product_half == nullptr)
    throw OptionError(
        "--precision bf16 needs a processor with AVX512-BF16, and this one has none; give "
        "--precision fp32");
  return native::Storage::bf16;
}

}  // namespace

std::unique_ptr<Model> make_encoder(const Options& options, const ModelConfig& config, int64_t classes,
                                    const Demands& demands, int64_t local_rank) {
  const bool native = takes_native(options, demands), wide = options.precision == "fp64";
  const native::Storage stored = storage(options, native);
  const Pooling pooled = pooling(options.pooling);
  const torch::Device device = find_device(options.device, local_rank);
  EncoderWeights weights =
      read_encoder_weights(options.model, config, pooled == Pooling::pooler,
                           torch::dtype(wide ? torch::kFloat64 : torch::kFloat32).device(device));
  std::vector<Site> sites =
      encoder_sites(config, options.targets, parse_adapted_layers(options.adapted_layers, config.layers));
  const int64_t cache = options.prefix_cache << 20;
  if (!native) {
    std::unique_ptr<Model> model =
        std::make_unique<ReferenceEncoder>(std::move(weights), std::move(sites), pooled, classes, cache);
    return device.is_cpu() ? std::move(model) : std::make_unique<OnDevice>(std::move(model));
  }
  if (wide) return std::make_unique<NativeEncoder<double>>(weights, std::move(sites), pooled, classes, cache);
  return std::make_unique<NativeEncoder<float>>(weights, std::move(sites), pooled, classes, cache, stored);
}

}  // namespace pf2lora
