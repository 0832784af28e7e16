
#include <gtest/gtest.h>

#include "model/small_transformer.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// Architectures, sites and poolings that take different paths through the encoder.
std::vector<SmallTransformer> variants() {
  std::vector<SmallTransformer> all;
  for (const Pooling pooling : {Pooling::cls, Pooling::pooler, Pooling::mean})
    for (const std::vector<int64_t>& layers : {std::vector<int64_t>{0, 1}, {1}, {0}})
      all.push_back({.layers = layers, .pooling = pooling});
  all.push_back({.config = small_config(1, "gelu_new"), .layers = {0}});
  all.push_back({.config = small_config(3, "relu"), .targets = {"query", "output"}, .layers = {1, 2}});
  all.push_back({.config = small_config(2, "gelu_pytorch_tanh"), .targets = {"intermediate"}, .layers = {1}});
  all.push_back({.prompts = {.prompt = 2}});
  all.push_back({.layers = {1}, .prompts = {.prefix = 3}});
  all.push_back({.layers = {1}, .pooling = Pooling::pooler, .prompts = {.prompt = 1}});
  all.push_back({.targets = {}, .pooling = Pooling::mean, .prompts = {.prompt = 2, .prefix = 1}});
  return with_native(all);
}

Tensor mean_losses(const Model& model, const Batch& batch, const AdapterSet& adapters) {
  const Tensor losses = model.loss(batch, adapters).loss;
  std::vector<Tensor> means;
  for (size_t g = 0; g + 1 < batch.client_offsets.size(); ++g)
    means.push_back(
        losses.slice(0, batch.client_offsets[g], batch.client_offsets[g + 1]).mean().unsqueeze(0));
  return torch::cat(means);
}

// The loss moves along a direction in each tensor of the adapters as the gradient says, client by client.
TEST(Encoder, GradientAgreesWithCentralDifferences) {
  for (const SmallTransformer& small : variants()) {
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 2);
    const AdapterSet at = random_adapters(model, 3, 2, 3, 0.3, small.prompts),
                     along = random_adapters(model, 3, 2, 4, 1, small.prompts);
    const Gradient gradient = model.gradient(batch, at, Keep::nothing);
    EXPECT_LT(relative_error(gradient.loss, mean_losses(model, batch, at)), 1e-14);
    EXPECT_EQ(gradient.pass, nullptr);

    const auto rows = gradient.rows.tensors(), directions = along.tensors();
    for (size_t i = 0; i < rows.size(); ++i) {
      std::vector<Tensor> only;
      for (const Tensor& direction : directions) only.push_back(torch::zeros_like(direction));
      only[i] = directions[i];
      const AdapterSet move = along.with_tensors(only);
      const double h = 1e-5;
      const Tensor difference =
          (mean_losses(model, batch, add(at, h, move)) - mean_losses(model, batch, add(at, -h, move))) /
          (2 * h);
      const Tensor slope = (rows[i] * directions[i]).flatten(1).sum(1);
      // A product of gradient and direction may nearly cancel: relative to the gradient's own size.
      const Tensor size = rows[i].flatten(1).norm(2, {1});
      EXPECT_LT(((difference - slope).abs() / size).max().item<double>(), 1e-7) << "tensor " << i;
    }
  }
}

TEST(Encoder, TangentAgreesWithCentralDifferencesOfTheGradient) {
  for (const SmallTransformer& small : variants()) {
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 5);
    const AdapterSet at = random_adapters(model, 3, 2, 6, 0.3, small.prompts),
                     along = random_adapters(model, 3, 2, 7, 1, small.prompts);
    Gradient gradient = model.gradient(batch, at, Keep::pass);
    EXPECT_TRUE(torch::equal(rows_of(gradient.rows), rows_of(model.gradient(batch, at, Keep::nothing).rows)));
    const Tensor tangent = rows_of(model.tangent(*gradient.pass, along));
    const double h = 1e-5;
    const auto gradient_at = [&](double t) {
      return rows_of(model.gradient(batch, add(at, t, along), Keep::nothing).rows);
    };
    const Tensor difference = (gradient_at(h) - gradient_at(-h)) / (2 * h);
    for (int64_t g = 0; g < 3; ++g)
      EXPECT_LT(relative_error(tangent[g], difference[g]), 1e-6) << "client " << g;
  }
}

// <u, H v> = <v, H u>
TEST(Encoder, TangentIsSymmetric) {
  for (const SmallTransformer& small : with_native({{}})) {
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 5);
    const AdapterSet at = random_adapters(model, 3, 2, 6), u = random_adapters(model, 3, 2, 7),
                     v = random_adapters(model, 3, 2, 8);
    const auto tangent = [&](const AdapterSet& along) {
      return rows_of(model.tangent(*model.gradient(batch, at, Keep::pass).pass, along));
    };
    const Tensor left = (rows_of(u) * tangent(v)).sum(1), right = (rows_of(v) * tangent(u)).sum(1);
    EXPECT_LT(relative_error(left, right), 1e-12);
  }
}

TEST(Encoder, LockstepEqualsClientsAlone) {
  for (const SmallTransformer& small : variants()) {
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 9);
    const AdapterSet at = random_adapters(model, 3, 2, 10, 0.3, small.prompts),
                     along = random_adapters(model, 3, 2, 11, 0.3, small.prompts);
    Gradient together = model.gradient(batch, at, Keep::pass);
    const Tensor scores = logits(model, batch, at);
    const AdapterSet tangent = model.tangent(*together.pass, along);
    for (int64_t g = 0; g < 3; ++g) {
      const Batch alone = batch_of(batch, size_t(g));
      const AdapterSet own = client_of(at, g);
      Gradient gradient = model.gradient(alone, own, Keep::pass);
      const int64_t begin = batch.client_offsets[size_t(g)], end = batch.client_offsets[size_t(g) + 1];
      const double bound = small.native ? 0 : 1e-12;  // the same bits
      EXPECT_LE(relative_error(scores.slice(0, begin, end), logits(model, alone, own)), bound);
      EXPECT_LE(relative_error(together.loss[g], gradient.loss[0]), bound);
      EXPECT_LE(relative_error(rows_of(together.rows)[g], rows_of(gradient.rows)[0]), bound);
      EXPECT_LE(
          relative_error(rows_of(tangent)[g], rows_of(model.tangent(*gradient.pass, client_of(along, g)))[0]),
          bound);
    }
  }
}

TEST(Encoder, GradientOfALargeGroupHasTheBitsOfItsClientsAlone) {
  SmallTransformer small{.native = true};
  const auto model = small.make();
  const std::vector<int64_t> lengths(450, small.config.positions);
  const Batch batch = random_batch({lengths, lengths, {3, 5}}, small.config, small.classes, 1);
  AdapterSet at = random_adapters(*model, 3, 2, 2);
  at.rank_weights = RandomTensors(3).normal({int64_t(batch.examples.size()), 2});
  const Gradient together = model->gradient(batch, at);
  for (int64_t g = 0; g < 3; ++g) {
    AdapterSet own = client_of(at, g);
    own.rank_weights =
        at.rank_weights.slice(0, batch.client_offsets[size_t(g)], batch.client_offsets[size_t(g) + 1]);
    const Gradient alone = model->gradient(batch_of(batch, size_t(g)), own);
    EXPECT_TRUE(torch::equal(together.loss[g], alone.loss[0]));
    EXPECT_TRUE(torch::equal(rows_of(together.rows)[g], rows_of(alone.rows)[0])) << "client " << g;
  }
  const Gradient kept = model->gradient(batch, at, Keep::pass);  // in one pass
  EXPECT_TRUE(torch::equal(rows_of(together.rows), rows_of(kept.rows)));
}

TEST(Encoder, PrefixCacheNeverChangesABit) {
  for (const bool native : {false, true}) {
    for (const Pooling pooling : {Pooling::cls, Pooling::mean}) {
      SmallTransformer small{.config = small_config(3), .layers = {2}, .pooling = pooling, .native = native};
      const Batch batch = random_batch(kThreeClients, small.config, small.classes, 12);
      small.prefix_cache_bytes = 0;
      const auto uncached_made = small.make();
      const Model& uncached = *uncached_made;
      const AdapterSet at = random_adapters(uncached, 3, 2, 13);
      const Tensor scores = logits(uncached, batch, at);
      const Tensor gradient = rows_of(uncached.gradient(batch, at, Keep::nothing).rows);
      const int64_t token = uncached.cached_bytes_per_token();
      EXPECT_EQ(token, (pooling == Pooling::cls ? 3 : 4) * 12 * 8);
      for (const int64_t bytes : {7 * token, int64_t{1} << 30}) {
        small.prefix_cache_bytes = bytes;
        const auto cached_made = small.make();
        const Model& cached = *cached_made;
        logits(cached, batch_of(batch, 2), client_of(at, 2));  // fills the cache in another order
        for (int pass = 0; pass < 2; ++pass) {
          EXPECT_TRUE(torch::equal(logits(cached, batch, at), scores)) << bytes << " bytes, pass " << pass;
          EXPECT_TRUE(torch::equal(rows_of(cached.gradient(batch, at, Keep::nothing).rows), gradient));
        }
      }
    }
  }
}

TEST(Encoder, CachesNothingWhereTheFirstLayerIsAdapted) {
  EXPECT_EQ(SmallTransformer().make()->cached_bytes_per_token(), 0);
}

TEST(Encoder, AdaptersInTheTopLayerEqualZeroAdaptersBelow) {
  for (const bool native : {false, true}) {
    for (const Pooling pooling : {Pooling::cls, Pooling::pooler, Pooling::mean}) {
      SmallTransformer small{
          .config = small_config(3), .layers = {0, 1, 2}, .pooling = pooling, .native = native};
      const auto whole_made = small.make();
      const Model& whole = *whole_made;
      small.layers = {2};
      const auto top_made = small.make();
      const Model& top = *top_made;
      const Batch batch = random_batch(kThreeClients, small.config, small.classes, 14);
      const AdapterSet at = random_adapters(top, 3, 2, 15);

      AdapterSet zero_below = random_adapters(whole, 3, 2, 16), none_below = zero_below;
      const size_t below = whole.sites().size() - top.sites().size();
      for (size_t i = 0; i < below; ++i) {
        zero_below.pairs[i].up.zero_();
        none_below.pairs[i] = {};
      }
      for (AdapterSet* set : {&zero_below, &none_below}) {
        std::copy(at.pairs.begin(), at.pairs.end(), set->pairs.begin() + int64_t(below));
        set->head_weight = at.head_weight;
        set->head_bias = at.head_bias;
        EXPECT_LT(relative_error(logits(whole, batch, *set), logits(top, batch, at)), 1e-12);
      }
      AdapterSet above = whole.gradient(batch, zero_below, Keep::nothing).rows;
      above.pairs.erase(above.pairs.begin(), above.pairs.begin() + int64_t(below));
      EXPECT_LT(relative_error(rows_of(above), rows_of(top.gradient(batch, at, Keep::nothing).rows)), 1e-12);
    }
  }
}

// Where every example is one token, its mean is its first token; tanh of the pooler is undone by hand.
TEST(Encoder, PoolingsAgreeOnExamplesOfOneToken) {
  SmallTransformer small;
  const Batch batch = random_batch({{1, 1}, {1}}, small.config, small.classes, 17);
  const AdapterSet at = random_adapters(*small.make(), 2, 2, 18);
  const Tensor cls = logits(*small.make(), batch, at);
  small.pooling = Pooling::mean;
  EXPECT_LT(relative_error(logits(*small.make(), batch, at), cls), 1e-13);

  // With the identity as head, the class scores of cls pooling are the hidden state itself.
  small.classes = small.config.hidden;
  AdapterSet identity = at;
  identity.head_weight = torch::eye(small.config.hidden, torch::kFloat64).repeat({2, 1, 1});
  identity.head_bias = torch::zeros({2, small.config.hidden}, torch::kFloat64);
  small.pooling = Pooling::cls;
  const Tensor hidden = logits(*small.make(), batch, identity);
  small.pooling = Pooling::pooler;
  const FrozenLinear pooler = random_weights(small.config, small.seed).pooler;
  EXPECT_LT(relative_error(logits(*small.make(), batch, identity),
                           torch::tanh(hidden.mm(pooler.weight.t()) + pooler.bias)),
            1e-13);
}

TEST(Encoder, LossIsTheCrossEntropyOfTheLogits) {
  for (const SmallTransformer& small : with_native({{}})) {
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 19);
    const AdapterSet at = random_adapters(model, 3, 2, 20);
    const Losses losses = model.loss(batch, at);
    const Tensor p = torch::exp(logits(model, batch, at));
    for (int64_t i = 0; i < p.size(0); ++i) {
      const double own = p[i][batch.labels[size_t(i)]].item<double>();
      EXPECT_NEAR(losses.loss[i].item<double>(), -std::log(own / p[i].sum().item<double>()), 1e-13);
      EXPECT_EQ(losses.predicted[i].item<int64_t>(), p[i].argmax().item<int64_t>());
    }
  }
}

TransformerWeights as_float(TransformerWeights weights) {
  for (Tensor* tensor : tensors_of(weights)) *tensor = tensor->to(torch::kFloat32);
  return weights;
}

TEST(Encoder, NativeInFloatAndDoubleEqualsReferenceInDouble) {
  for (const SmallTransformer& small : variants()) {
    if (!small.native) continue;
    SmallTransformer other = small;
    other.native = false;
    const auto reference = other.make(), native = small.make();
    NativeTransformer<float> narrow(as_float(random_weights(small.config, small.seed)), native->sites(),
                                    small.readout(), 0);
    narrow.pack_weights(own_filled_memory);
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 21);
    const AdapterSet at = random_adapters(*reference, 3, 2, 22),
                     along = random_adapters(*reference, 3, 2, 23);
    Gradient expected = reference->gradient(batch, at, Keep::pass);
    const Tensor tangent = rows_of(reference->tangent(*expected.pass, along));
    const auto compare = [&](const Model& model, torch::ScalarType type, double bound) {
      Gradient found = model.gradient(batch, as(at, type), Keep::pass);
      EXPECT_LT(relative_error(found.loss.to(torch::kFloat64), expected.loss), bound);
      EXPECT_LT(relative_error(rows_of(found.rows).to(torch::kFloat64), rows_of(expected.rows)), bound);
      EXPECT_LT(
          relative_error(rows_of(model.tangent(*found.pass, as(along, type))).to(torch::kFloat64), tangent),
          bound);
    };
    compare(*native, torch::kFloat64, 1e-12);
    compare(narrow, torch::kFloat32, 2e-5);
  }
}

// Compares with double precision: the loss, gradients and tangents are off by more than `least` and less than
// `most`, and have the same bits in any group.
void check_products_in(native::Storage storage, double least, double most) {
  for (const SmallTransformer& small : variants()) {
    if (!small.native) continue;
    const auto full = small.make();
    NativeTransformer<float> half(as_float(random_weights(small.config, small.seed)), full->sites(),
                                  small.readout(), 1 << 20, storage);
    half.pack_weights(own_filled_memory);
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 24);
    const AdapterSet at = random_adapters(*full, 3, 2, 25, 0.1), along = random_adapters(*full, 3, 2, 26),
                     at_half = as(at, torch::kFloat32), along_half = as(along, torch::kFloat32);
    Gradient expected = full->gradient(batch, at, Keep::pass),
             found = half.gradient(batch, at_half, Keep::pass);
    const Tensor rows = rows_of(found.rows), tangent = rows_of(half.tangent(*found.pass, along_half));
    for (const double error :
         {relative_error(found.loss.to(torch::kFloat64), expected.loss),
          relative_error(rows.to(torch::kFloat64), rows_of(expected.rows)),
          relative_error(tangent.to(torch::kFloat64), rows_of(full->tangent(*expected.pass, along)))}) {
      EXPECT_LT(error, most);
      EXPECT_GT(error, least);
    }
    for (int64_t g = 0; g < 3; ++g) {
      Gradient alone = half.gradient(batch_of(batch, size_t(g)), client_of(at_half, g), Keep::pass);
      EXPECT_TRUE(torch::equal(rows_of(alone.rows)[0], rows[g]));
      EXPECT_TRUE(torch::equal(rows_of(half.tangent(*alone.pass, client_of(along_half, g)))[0], tangent[g]));
    }
  }
}

// Rounding to bf16 is off by 2^-9 at most, and a few times that passes through the layers.
TEST(Encoder, ProductsInBf16AreNearAndHaveTheSameBitsInAnyGroup) {
  if (native::kernels<float>().bf16 == nullptr) GTEST_SKIP() << "this processor has no products in bf16";
  check_products_in(native::Storage::bf16, 1e-5 /* it is not float */, 0.1);
}

// As float's, whose bound is the same.
TEST(Encoder, ProductsInThreeBf16AreAsExactAsFloatAndHaveTheSameBitsInAnyGroup) {
  if (native::kernels<float>().bf16x3 == nullptr) GTEST_SKIP() << "this processor has no AMX";
  check_products_in(native::Storage::bf16x3, 0, 2e-5);
}

TEST(Encoder, NativeCoversOnlyWhatItComputes) {
  const auto covers = [](const ModelConfig& config, const Readout& readout = {}) {
    return NativeTransformer<float>::covers(config, readout);
  };
  for (const Task task : {Task::classification, Task::regression, Task::span})
    EXPECT_TRUE(covers(small_config(), {.task = task}));
  ModelConfig decoder = small_config(), relative = small_config();
  decoder.causal = true;
  relative.position_kind = PositionKind::relative;
  EXPECT_TRUE(covers(decoder, {.task = Task::generation}));
  EXPECT_TRUE(covers(decoder, {.pooling = Pooling::last}));
  EXPECT_FALSE(covers(decoder, {.pooling = Pooling::cls}));
  EXPECT_FALSE(covers(relative));
}

TEST(Encoder, CountsItsFrozenParameters) {
  // Embeddings of words, positions and token types, and their norm; 4 square products, 2 to and from the wide
  // layer, 2 norms a layer; the pooler.
  EXPECT_EQ(SmallTransformer().make()->frozen_parameters(),
            (50 + 16 + 2 + 2) * 12 + 2 * (4 * (144 + 12) + (240 + 20) + (240 + 12) + 4 * 12) + 156);
}

}  // namespace
}  // namespace pf2lora
