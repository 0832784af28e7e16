#include "native/linear_op.h"

#include <gtest/gtest.h>

#include "core/memory.h"
#include "native/adapters.h"
#include "native/pooling_op.h"

namespace pf2lora::native {
namespace {

constexpr int64_t kLinearIn = 23, kLinearOut = 19;

class LinearOperations : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, LinearOperations, testing::ValuesIn(supported_processors()), processor_name);

// A frozen layer, its numbers exact in bf16.
template <class T>
struct Layer {
  Tensor weight, bias;
  FrozenBlock<T> block;
  FrozenLayer<T> frozen;

  Layer(const Kernels<T>& table, Storage storage)
      : weight(draw({kLinearOut, kLinearIn}).to(torch::kBFloat16).to(type_of<T>())),
        bias(draw({kLinearOut}, type_of<T>())),
        block(table, storage) {
    const std::shared_ptr<const T> from(std::make_shared<const Tensor>(weight), data<T>(weight));
    frozen.value.push_back(block.add(from, 1, kLinearIn, kLinearIn, kLinearOut));
    frozen.gradient.push_back(block.add(from, kLinearIn, 1, kLinearOut, kLinearIn));
    frozen.bias.assign(data<T>(bias), data<T>(bias) + kLinearOut);
    block.lay_out(own_filled_memory);
  }
  ValueId add(Graph<T>& graph, ValueId x, Per per, int site) const {
    return graph.add(std::make_unique<LinearOperation<T>>(frozen, kLinearIn, site), {x}, per, kLinearOut);
  }
};

// x W^T + b + (w * x down^T) up^T with the pair of each row's client and the weights of its example.
Tensor reference(const AdapterQuestion& question, Per per, const Tensor& weight, const Tensor& bias,
                 const std::vector<Tensor>& in) {
  const BatchShape& batch = question.values.batch;
  const Tensor examples = examples_of_rows(batch, per);
  std::vector<Tensor> rows;
  for (int64_t g = 0; g < batch.clients(); ++g) {
    const int64_t begin = batch.begin(per, g), end = batch.begin(per, g + 1);
    Tensor low = torch::mm(in[0].slice(0, begin, end), in[size_t(1 + g)].t());
    if (question.rank_weights.defined())
      low = low * question.rank_weights.to(torch::kFloat64).index_select(0, examples.slice(0, begin, end));
    rows.push_back(torch::mm(low, in[size_t(1 + batch.clients() + g)].t()));
  }
  return torch::addmm(bias.to(torch::kFloat64), in[0], weight.to(torch::kFloat64).t()) + torch::cat(rows);
}

template <class T>
double difference_from_autograd(const Kernels<T>& table, Per per, bool weighted, Storage storage) {
  const auto type = type_of<T>();
  const Layer<T> layer(table, storage);
  const std::vector<int64_t> ranks = weighted ? std::vector<int64_t>{3, 3, 3} : std::vector<int64_t>{2, 4, 1};
  const AdapterQuestion question{
      draw_question(batch_with_targets(), {{per, kLinearIn}}, {per, kLinearOut}, type),
      ClientAdapters::pairs(ranks, kLinearOut, kLinearIn, type),
      ClientAdapters::pairs(ranks, kLinearOut, kLinearIn, type), weighted ? draw({6, 3}, type) : Tensor()};
  const Build<T> build = [&](Graph<T>& graph, const std::vector<ValueId>& in) {
    return layer.add(graph, in[0], per, 0);
  };
  return worst_difference(
      ask<T>(table, question, {kLinearOut, kLinearIn}, build),
      answer([&](const auto& in) { return reference(question, per, layer.weight, layer.bias, in); },
             question));
}

TEST_P(LinearOperations, AgreeWithAutogradPerTokenExampleAndTarget) {
  for (const Per per : {Per::token, Per::example, Per::target})
    for (const bool weighted : {false, true}) {
      EXPECT_LT(difference_from_autograd(table<double>(), per, weighted, Storage::full), 1e-12);
      EXPECT_LT(difference_from_autograd(table<float>(), per, weighted, Storage::full), 2e-5);
      if (table<float>().bf16 != nullptr) {
        EXPECT_LT(difference_from_autograd(table<float>(), per, weighted, Storage::bf16), 2e-2);
      }
      if (table<float>().bf16x3 != nullptr) {
        EXPECT_LT(difference_from_autograd(table<float>(), per, weighted, Storage::bf16x3), 2e-5);
      }
    }
}

// So a head of a language model may score the targets alone.
TEST_P(LinearOperations, TargetsHaveTheBitsThatTheirTokensHave) {
  for (const Storage storage : {Storage::full, Storage::bf16, Storage::bf16x3}) {
    if (storage == Storage::bf16 && table<float>().bf16 == nullptr) continue;
    if (storage == Storage::bf16x3 && table<float>().bf16x3 == nullptr) continue;
    const Layer<float> layer(table<float>(), storage);
    const Question question = draw_question(batch_with_targets(), {{Per::token, kLinearIn}},
                                            {Per::target, kLinearOut}, torch::kFloat32);
    const auto select = [](Graph<float>& graph, ValueId x, int64_t width) {
      return graph.add(std::make_unique<TargetOperation<float>>(), {x}, Per::target, width);
    };
    const Build<float> before = [&](Graph<float>& graph, const std::vector<ValueId>& in) {
      return layer.add(graph, select(graph, in[0], kLinearIn), Per::target, LinearOperation<float>::kNoSite);
    };
    const Build<float> after = [&](Graph<float>& graph, const std::vector<ValueId>& in) {
      return select(graph, layer.add(graph, in[0], Per::token, LinearOperation<float>::kNoSite), kLinearOut);
    };
    const Derivatives first = ask(table<float>(), question, before);
    const Derivatives second = ask(table<float>(), question, after);
    EXPECT_TRUE(same_bits(first.value, second.value));
    EXPECT_TRUE(same_bits(first.tangent, second.tangent));
    EXPECT_TRUE(torch::equal(first.gradient[0], second.gradient[0]));
    EXPECT_TRUE(torch::equal(first.gradient_tangent[0], second.gradient_tangent[0]));
  }
}

}  // namespace
}  // namespace pf2lora::native
