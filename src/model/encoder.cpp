#include "model/encoder.h"

#include "core/error.h"
#include "core/option_values.h"
#include "model/native_encoder.h"
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
  return options.backend != "reference" && !demands.prompts;
}

// How the native implementation, if it takes the run, keeps the weights of the layers.
native::Storage storage(const Options& options, bool native) {
  if (options.precision != "bf16") return native::Storage::full;
  if (!native)
    throw OptionError(
        "--precision bf16 is not offered by --backend reference, which " +
        (options.backend == "reference" ? "was asked for" : "--algorithm " + options.algorithm + " needs") +
        "; give --precision fp32");
  if (native::kernels<float>().product_half == nullptr)
    throw OptionError(
        "--precision bf16 needs a processor with AVX512-BF16, and this one has none; give "
        "--precision fp32");
  return native::Storage::bf16;
}

}  // namespace

std::unique_ptr<Model> make_encoder(const Options& options, const ModelConfig& config, int64_t classes,
                                    const Demands& demands) {
  const bool native = takes_native(options, demands), wide = options.precision == "fp64";
  const native::Storage stored = storage(options, native);
  const Pooling pooled = pooling(options.pooling);
  EncoderWeights weights = read_encoder_weights(options.model, config, pooled == Pooling::pooler,
                                                torch::dtype(wide ? torch::kFloat64 : torch::kFloat32));
  std::vector<Site> sites =
      encoder_sites(config, options.targets, parse_adapted_layers(options.adapted_layers, config.layers));
  const int64_t cache = options.prefix_cache << 20;
  if (!native)
    return std::make_unique<ReferenceEncoder>(std::move(weights), std::move(sites), pooled, classes, cache);
  if (wide) return std::make_unique<NativeEncoder<double>>(weights, std::move(sites), pooled, classes, cache);
  return std::make_unique<NativeEncoder<float>>(weights, std::move(sites), pooled, classes, cache, stored);
}

}  // namespace pf2lora
