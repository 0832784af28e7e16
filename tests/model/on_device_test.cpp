// A model on an accelerator answers as the same model on the processor does.
#include "model/on_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>

#include "core/error.h"
#include "model/small_transformer.h"

namespace pf2lora {
namespace {

using torch::Tensor;

TransformerWeights on(torch::Device device, TransformerWeights weights) {
  for (Tensor* tensor : tensors_of(weights)) *tensor = tensor->to(device);
  return weights;
}

// Every question to both, at the prompts and adapters of `small`; its answers come back in main memory.
void compare(const SmallTransformer& small, torch::Device device, double bound) {
  const auto here = small.make();
  const OnDevice there(small.make_with(on(device, random_weights(small.config, small.seed))));
  ASSERT_TRUE(there.options().device().is_cpu());
  const Batch batch = random_batch({{3, 5}, {4}}, small.config, small.classes, 31);
  const AdapterSet at = random_adapters(*here, 2, 2, 32, 0.3, small.prompts),
                   along = random_adapters(*here, 2, 2, 33, 0.3, small.prompts);
  const auto same = [&](const Tensor& found, const Tensor& expected) {
    ASSERT_TRUE(found.device().is_cpu());
    EXPECT_LE(relative_error(found, expected), bound);
  };
  same(there.loss(batch, at).loss, here->loss(batch, at).loss);
  EXPECT_TRUE(torch::equal(there.loss(batch, at).predicted, here->loss(batch, at).predicted));
  Gradient found = there.gradient(batch, at, Keep::pass), expected = here->gradient(batch, at, Keep::pass);
  same(found.loss, expected.loss);
  same(rows_of(found.rows), rows_of(expected.rows));
  same(rows_of(there.tangent(*found.pass, along)), rows_of(here->tangent(*expected.pass, along)));
  Output output = there.output(batch, at, Keep::pass), wanted = here->output(batch, at, Keep::pass);
  same(output.values, wanted.values);
  const OutputLoss worth = there.output_loss(batch, output.values);
  same(worth.loss, here->output_loss(batch, wanted.values).loss);
  same(rows_of(there.pullback(*output.pass, worth.cotangent)), rows_of(expected.rows));
  same(there.features(batch), here->features(batch));
}

std::vector<SmallTransformer> device_variants() {
  return {{}, {.layers = {1}, .pooling = Pooling::mean}, {.prompts = {.prompt = 2, .prefix = 1}}};
}

TEST(OnDevice, PassesEveryQuestionOn) {
  for (const SmallTransformer& small : device_variants()) compare(small, torch::kCPU, 1e-15);
}

TEST(OnDevice, AnswersOnAGpuAsOnTheProcessor) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "there is no GPU, or LibTorch has no CUDA";
  for (const SmallTransformer& small : device_variants()) compare(small, find_device("cuda", 0), 1e-12);
}

TEST(FindDevice, TakesTheGpusOfAMachineInTurn) {
  EXPECT_TRUE(find_device("cpu", 3).is_cpu());
  if (torch::cuda::is_available()) {
    const auto count = int64_t(torch::cuda::device_count());
    EXPECT_EQ(find_device("cuda", count + 1).index(), 1 % count);
    return;
  }
  try {
    find_device("cuda", 0);
    FAIL() << "there is no GPU to find";
  } catch (const OptionError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("--device cuda"));
  }
}

}  // namespace
}  // namespace pf2lora
