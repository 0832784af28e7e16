// What methods beyond one pair a site ask of the encoder: dense updates, rank weights, prompts, mixed
// outputs, features.
#include <gtest/gtest.h>

#include "model/small_transformer.h"

namespace pf2lora {
namespace {

using torch::Tensor;

// All layers adapted, and the top one alone, whose frozen projections are cached.
std::vector<SmallTransformer> top_and_all_layers() {
  std::vector<SmallTransformer> all;
  for (const Pooling pooling : {Pooling::cls, Pooling::pooler, Pooling::mean})
    for (const std::vector<int64_t>& layers : {std::vector<int64_t>{0, 1}, {1}})
      all.push_back({.layers = layers, .pooling = pooling});
  return with_native(all);
}

Tensor& frozen_matrix(TransformerWeights& weights, const Site& site) {
  TransformerLayer& layer = weights.layers[size_t(site.layer)];
  const std::map<std::string, FrozenLinear*> by_target = {
      {"query", &layer.query},   {"key", &layer.key},
      {"value", &layer.value},   {"attention-output", &layer.attention_output},
      {"output", &layer.output}, {"intermediate", &layer.intermediate}};
  return by_target.at(site.target)->weight;
}

TEST(DenseUpdate, EqualsAnEditOfTheFrozenWeights) {
  for (const SmallTransformer& small : top_and_all_layers()) {
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 1);
    AdapterSet at = random_adapters(model, 3, 2, 2);
    RandomTensors random(3);
    TransformerWeights edited = random_weights(small.config, small.seed);
    for (size_t i = 0; i < model.sites().size(); ++i) {
      const Site& site = model.sites()[i];
      at.dense.push_back(i % 4 == 1 ? Tensor() : random.normal({site.rows, site.columns}, 0.3));
      if (at.dense[i].defined()) frozen_matrix(edited, site) += at.dense[i];
    }
    at.pairs[2] = {};  // a site with a dense update alone
    const ReferenceTransformer other(edited, model.sites(), small.readout(), 0);
    AdapterSet pairs_alone = at;
    pairs_alone.dense.clear();
    EXPECT_LT(relative_error(logits(model, batch, at), logits(other, batch, pairs_alone)), 1e-12);
    EXPECT_GT(relative_error(logits(model, batch, pairs_alone), logits(other, batch, pairs_alone)), 0.1);
    EXPECT_LT(relative_error(rows_of(model.gradient(batch, at, Keep::nothing).rows),
                             rows_of(other.gradient(batch, pairs_alone, Keep::nothing).rows)),
              1e-12);
  }
}

// An example's weights w stand for down scaled by w, were the example its client's only one. So every example
// is made a client of its own.
TEST(RankWeights, ScaleTheRowsOfDownExampleByExample) {
  for (const SmallTransformer& small : top_and_all_layers()) {
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 4);
    AdapterSet at = random_adapters(model, 3, 2, 5);
    at.rank_weights = RandomTensors(6).normal({8, 2});
    const Tensor scores = logits(model, batch, at);
    const AdapterSet rows = model.gradient(batch, at, Keep::nothing).rows;

    AdapterSet expected = map(at, [](const Tensor& tensor) { return torch::zeros_like(tensor); });
    for (int64_t g = 0, n = 0; g < 3; ++g) {
      const Batch own = batch_of(batch, size_t(g));
      for (int64_t i = 0; i < own.client_offsets[1]; ++i, ++n) {
        Batch alone = own;  // example i of client g
        alone.client_offsets = {0, 1};
        alone.examples = {own.examples[size_t(i)]};
        alone.labels = {own.labels[size_t(i)]};
        const int64_t begin = own.token_offsets[size_t(i)], end = own.token_offsets[size_t(i) + 1];
        alone.tokens.assign(own.tokens.begin() + begin, own.tokens.begin() + end);
        alone.token_offsets = {0, end - begin};

        const Tensor weights = at.rank_weights[n].unsqueeze(1);  // [R, 1]
        AdapterSet scaled = client_of(at, g);
        scaled.rank_weights = Tensor();
        for (LowRankPair& pair : scaled.pairs) pair.down = pair.down * weights;
        EXPECT_LT(relative_error(scores[n], logits(model, alone, scaled)[0]), 1e-12);

        AdapterSet part = model.gradient(alone, scaled, Keep::nothing).rows;
        for (LowRankPair& pair : part.pairs) pair.down = pair.down * weights;
        const auto sums = expected.tensors(), parts = part.tensors();
        for (size_t t = 0; t < sums.size(); ++t) sums[t][g] += parts[t][0] / own.client_offsets[1];
      }
    }
    EXPECT_LT(relative_error(rows_of(rows), rows_of(expected)), 1e-12);
  }
}

TEST(RankWeights, TangentAgreesWithCentralDifferencesOfTheGradient) {
  for (const SmallTransformer& small : with_native({{}})) {
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 7);
    AdapterSet at = random_adapters(model, 3, 2, 8);
    const AdapterSet along = random_adapters(model, 3, 2, 9, 1);
    at.rank_weights = RandomTensors(10).normal({8, 2});
    RandomTensors random(11);
    for (const Site& site : model.sites()) at.dense.push_back(random.normal({site.rows, site.columns}, 0.2));
    const Tensor tangent = rows_of(model.tangent(*model.gradient(batch, at, Keep::pass).pass, along));
    const double h = 1e-5;
    const auto gradient_at = [&](double t) {
      return rows_of(model.gradient(batch, add(at, t, along), Keep::nothing).rows);
    };
    EXPECT_LT(relative_error(tangent, (gradient_at(h) - gradient_at(-h)) / (2 * h)), 1e-6);
  }
}

// Where all positions look alike, a prompt of a token's own embedding is that token, after [CLS].
TEST(Prompt, OfAWordsEmbeddingIsThatWord) {
  for (const Pooling pooling : {Pooling::cls, Pooling::pooler}) {
    const SmallTransformer small{.pooling = pooling};
    TransformerWeights weights = random_weights(small.config, small.seed);
    weights.positions = weights.positions.narrow(1, 0, 1).repeat({1, small.config.positions, 1});
    const ReferenceTransformer model(weights, small.make()->sites(), small.readout(), 0);
    const Batch batch = random_batch({{4, 1}, {6}}, small.config, small.classes, 12);
    AdapterSet at = random_adapters(model, 2, 2, 13);
    const std::vector<std::vector<int64_t>> words = {{3, 41}, {17, 5}};  // by client
    Batch longer = batch;
    for (size_t g = 2; g-- > 0;)
      for (int64_t i = batch.client_offsets[g + 1]; i-- > batch.client_offsets[g];)
        longer.tokens.insert(longer.tokens.begin() + batch.token_offsets[size_t(i)] + 1, words[g].begin(),
                             words[g].end());
    for (size_t i = 0; i < longer.token_offsets.size(); ++i) longer.token_offsets[i] += 2 * int64_t(i);
    const Tensor expected = logits(model, longer, at);

    at.prompt = weights.words.index_select(0, torch::tensor({3, 41, 17, 5})).view({2, 2, -1}) +
                weights.positions[0][0];
    EXPECT_LT(relative_error(logits(model, batch, at), expected), 1e-12);
  }
}

// With a prefix in the top layer alone, the frozen states under it are those of the cache.
TEST(Prefix, OfTheTopLayerLeavesTheCacheInUse) {
  for (const Pooling pooling : {Pooling::cls, Pooling::mean}) {
    SmallTransformer small{.config = small_config(3), .pooling = pooling, .prompts = {.prefix = 2}};
    small.layers = {2};
    const auto top_made = small.make();
    const Model& top = *top_made;
    small.layers = {0, 1, 2};
    const auto whole_made = small.make();
    const Model& whole = *whole_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 14);
    AdapterSet at = random_adapters(top, 3, 2, 15, 0.3, small.prompts);
    at.prefix[0] = at.prefix[1] = {};
    AdapterSet same = at;
    same.pairs.insert(same.pairs.begin(), whole.sites().size() - top.sites().size(), LowRankPair{});
    EXPECT_LT(relative_error(logits(top, batch, at), logits(whole, batch, same)), 1e-12);
    EXPECT_LT(relative_error(rows_of(top.gradient(batch, at, Keep::nothing).rows),
                             rows_of(whole.gradient(batch, same, Keep::nothing).rows)),
              1e-12);
    same.prefix.clear();
    EXPECT_GT(relative_error(logits(top, batch, at), logits(whole, batch, same)), 1e-2);
  }
}

TEST(Output, ItsLossAndPullbackMakeTheGradient) {
  auto all = top_and_all_layers();
  all.push_back({.prompts = {.prompt = 2, .prefix = 1}});
  for (const SmallTransformer& small : all) {
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 16);
    const AdapterSet at = random_adapters(model, 3, 2, 17, 0.3, small.prompts);
    const Gradient gradient = model.gradient(batch, at, Keep::nothing);
    Output output = model.output(batch, at, Keep::pass);
    EXPECT_TRUE(torch::equal(output.values, logits(model, batch, at)));
    const OutputLoss loss = model.output_loss(batch, output.values);
    const Losses losses = model.loss(batch, at);
    EXPECT_TRUE(torch::equal(loss.examples.loss, losses.loss));
    EXPECT_TRUE(torch::equal(loss.examples.predicted, losses.predicted));
    EXPECT_LT(relative_error(loss.loss, gradient.loss), 1e-14);
    EXPECT_LT(relative_error(rows_of(model.pullback(*output.pass, loss.cotangent)), rows_of(gradient.rows)),
              1e-12);
  }
}

// L(0.3 output(a) + 0.7 output(b)), by the adapters of both.
TEST(Output, PullsTheLossOfAMixtureBackToBothAdapterSets) {
  for (const SmallTransformer& small : with_native({{}})) {
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 18);
    const AdapterSet a = random_adapters(model, 3, 2, 19), b = random_adapters(model, 3, 1, 20),
                     along_a = random_adapters(model, 3, 2, 21), along_b = random_adapters(model, 3, 1, 22);
    const auto loss = [&](double t) {
      return model
          .output_loss(batch, 0.3 * logits(model, batch, add(a, t, along_a)) +
                                  0.7 * logits(model, batch, add(b, t, along_b)))
          .loss;
    };
    Output of_a = model.output(batch, a, Keep::pass), of_b = model.output(batch, b, Keep::pass);
    const Tensor cotangent = model.output_loss(batch, 0.3 * of_a.values + 0.7 * of_b.values).cotangent;
    const Tensor slope = (rows_of(model.pullback(*of_a.pass, 0.3 * cotangent)) * rows_of(along_a)).sum(1) +
                         (rows_of(model.pullback(*of_b.pass, 0.7 * cotangent)) * rows_of(along_b)).sum(1);
    const double h = 1e-5;
    EXPECT_LT(relative_error(slope, (loss(h) - loss(-h)) / (2 * h)), 1e-7);
  }
}

// With the identity as head and no adapters, the scores are what the head reads.
TEST(Features, AreWhatTheHeadReadsOfTheFrozenModel) {
  for (SmallTransformer small : top_and_all_layers()) {
    small.classes = small.config.hidden;
    const auto model_made = small.make();
    const Model& model = *model_made;
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 23);
    AdapterSet none;
    none.head_weight = torch::eye(small.config.hidden, torch::kFloat64).repeat({3, 1, 1});
    none.head_bias = torch::zeros({3, small.config.hidden}, torch::kFloat64);
    EXPECT_LT(relative_error(model.features(batch), logits(model, batch, none)), 1e-12);
  }
}

TEST(Features, HaveTheSameBitsInWhateverBatchAndCachedOrNot) {
  for (SmallTransformer small : top_and_all_layers()) {
    const Batch batch = random_batch(kThreeClients, small.config, small.classes, 24);
    const Tensor features = small.make()->features(batch);
    small.prefix_cache_bytes = 0;
    const auto uncached_made = small.make();
    const Model& uncached = *uncached_made;
    EXPECT_TRUE(torch::equal(uncached.features(batch), features));
    for (size_t g = 0; g < 3; ++g)
      EXPECT_TRUE(torch::equal(uncached.features(batch_of(batch, g)),
                               features.slice(0, batch.client_offsets[g], batch.client_offsets[g + 1])));
  }
}

}  // namespace
}  // namespace pf2lora
