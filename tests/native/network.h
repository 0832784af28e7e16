// A graph whose inputs are a test's: its value, gradient, tangent and tangent of the gradient.
#pragma once
#include "native/graph.h"
#include "native/oracle.h"

namespace pf2lora::native {

// A value given by a test, and what reaches it. With a direction it counts as depending on adapters; without
// one it is constant, and nothing reaches it.
struct Leaf {
  Tensor value, direction;            // [rows, width]
  Tensor gradient, gradient_tangent;  // 0 where none came
};

template <class T>
class LeafOperation final : public Operation<T> {
 public:
  explicit LeafOperation(std::shared_ptr<Leaf> leaf) : leaf_(std::move(leaf)) {}
  const char* name() const override { return "leaf"; }
  void value(Pass<T>& pass) const override { put(leaf_->value, this->make(pass.value, pass)); }
  void gradient(Pass<T>& pass) const override { get(this->result(pass.gradient), leaf_->gradient); }
  void tangent(Pass<T>& pass) const override { put(leaf_->direction, this->make(pass.tangent, pass)); }
  void gradient_tangent(Pass<T>& pass) const override {
    get(this->result(pass.gradient_tangent), leaf_->gradient_tangent);
  }
  bool adapted() const override { return leaf_->direction.defined(); }

 private:
  void put(const Tensor& x, T* to) const { std::copy_n(data<T>(x.contiguous()), x.numel(), to); }
  void get(const T* from, Tensor& to) const {
    to = torch::zeros_like(leaf_->value, torch::MemoryFormat::Contiguous);
    if (from != nullptr) std::copy_n(from, to.numel(), data<T>(to));
  }
  std::shared_ptr<Leaf> leaf_;
};

// What a graph is asked with: inputs and their directions, pull and its direction of the result.
struct Question {
  BatchShape batch;
  std::vector<Per> per;                   // of the inputs
  std::vector<Tensor> inputs, direction;  // without direction: constant
  Tensor pull, pull_direction;
};

struct ValueShape {
  Per per;
  int64_t width;
  bool active = true;
};

inline Question draw_question(const BatchShape& batch, const std::vector<ValueShape>& inputs,
                              ValueShape result, torch::ScalarType type) {
  Question question{.batch = batch};
  const auto matrix = [&](ValueShape shape) { return draw({batch.rows(shape.per), shape.width}, type); };
  for (const ValueShape& shape : inputs) {
    question.per.push_back(shape.per);
    question.inputs.push_back(matrix(shape));
    question.direction.push_back(shape.active ? matrix(shape) : Tensor());
  }
  question.pull = matrix(result);
  question.pull_direction = matrix(result);
  return question;
}

// Adds operations on the values to a graph; their last result.
template <class T>
using Build = std::function<ValueId(Graph<T>&, const std::vector<ValueId>&)>;

// Sets what is left of a pass: adapters before the value, the target of gradients and that of their tangent.
template <class T>
struct Prepare {
  std::function<void(Pass<T>&)> adapters, gradient, gradient_tangent;
};

// As far as a pass of such a reach goes.
template <class T>
Derivatives ask(const Kernels<T>& table, const Question& question, const Build<T>& build,
                const Prepare<T>& prepare, Reach reach) {
  Graph<T> graph;
  std::vector<std::shared_ptr<Leaf>> leaves;
  std::vector<ValueId> inputs;
  for (size_t i = 0; i < question.inputs.size(); ++i) {
    leaves.push_back(std::make_shared<Leaf>(Leaf{question.inputs[i], question.direction[i], {}, {}}));
    inputs.push_back(graph.add(std::make_unique<LeafOperation<T>>(leaves.back()), {}, question.per[i],
                               question.inputs[i].size(1)));
  }
  const ValueId result = build(graph, inputs);
  Pool<T> pool;
  Pass<T> pass(table, pool, question.batch, reach);
  graph.prepare(pass);
  const auto prepared = [&](const std::function<void(Pass<T>&)>& step) {
    if (step) step(pass);
  };
  const auto get = [&](const std::vector<Numbers<T>>& of) {
    const Tensor x = torch::empty_like(question.pull, torch::MemoryFormat::Contiguous);
    std::copy_n(of[size_t(result)].get(), x.numel(), data<T>(x));
    return x;
  };
  const auto set = [&](std::vector<Numbers<T>>& of, const Tensor& x) {
    of[size_t(result)] = pool.take(x.numel());
    std::copy_n(data<T>(x.contiguous()), x.numel(), of[size_t(result)].get());
  };
  Derivatives all;
  prepared(prepare.adapters);
  graph.value(pass, std::array{result});
  all.value = get(pass.value);
  if (reach == Reach::value) return all;
  prepared(prepare.gradient);
  set(pass.gradient, question.pull);
  graph.gradient(pass);
  for (const auto& leaf : leaves) all.gradient.push_back(leaf->gradient);
  if (reach == Reach::gradient) return all;
  graph.tangent(pass);
  all.tangent = get(pass.tangent);
  prepared(prepare.gradient_tangent);
  set(pass.gradient_tangent, question.pull_direction);
  graph.gradient_tangent(pass);
  for (const auto& leaf : leaves) all.gradient_tangent.push_back(leaf->gradient_tangent);
  return all;
}

// All, and that passes which go less far find the same bits.
template <class T>
Derivatives ask(const Kernels<T>& table, const Question& question, const Build<T>& build,
                const Prepare<T>& prepare = {}) {
  const Derivatives value = ask(table, question, build, prepare, Reach::value);
  const Derivatives gradient = ask(table, question, build, prepare, Reach::gradient);
  const Derivatives all = ask(table, question, build, prepare, Reach::tangent);
  EXPECT_TRUE(same_bits(value.value, all.value) && same_bits(gradient.value, all.value));
  for (size_t i = 0; i < all.gradient.size(); ++i) {
    if (!all.gradient[i].defined()) continue;
    EXPECT_TRUE(same_bits(gradient.gradient[i], all.gradient[i]));
  }
  return all;
}

// What autograd says in double of f by the inputs.
inline Derivatives answer(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                          const Question& question) {
  std::vector<Tensor> inputs, direction;
  for (size_t i = 0; i < question.inputs.size(); ++i) {
    inputs.push_back(question.inputs[i].to(torch::kFloat64));
    direction.push_back(question.direction[i].defined() ? question.direction[i].to(torch::kFloat64)
                                                        : torch::zeros_like(inputs.back()));
  }
  return differentiate(f, inputs, direction, question.pull.to(torch::kFloat64),
                       question.pull_direction.to(torch::kFloat64));
}

inline double worst_difference(const Derivatives& ours, const Derivatives& theirs) {
  double worst = std::max(difference(ours.value, theirs.value), difference(ours.tangent, theirs.tangent));
  for (size_t i = 0; i < ours.gradient.size(); ++i)
    if (ours.gradient[i].defined())
      worst = std::max({worst, difference(ours.gradient[i], theirs.gradient[i]),
                        difference(ours.gradient_tangent[i], theirs.gradient_tangent[i])});
  return worst;
}

// Whether each example alone, all of whose values are per token, has the bits that it has in the batch.
template <class T>
bool same_bits_in_any_company(const Kernels<T>& table, const Question& question, const Build<T>& build) {
  const Derivatives together = ask(table, question, build);
  const auto& offsets = question.batch.token_offsets;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t row = offsets[i], count = offsets[i + 1] - row;
    const auto part = [&](const Tensor& x) { return x.narrow(0, row, count); };
    Question own{.batch = {{0, count}, {0, 1}},
                 .per = question.per,
                 .pull = part(question.pull),
                 .pull_direction = part(question.pull_direction)};
    for (size_t j = 0; j < question.inputs.size(); ++j) {
      own.inputs.push_back(part(question.inputs[j]));
      own.direction.push_back(question.direction[j].defined() ? part(question.direction[j]) : Tensor());
    }
    const Derivatives alone = ask(table, own, build);
    if (!same_bits(alone.value, part(together.value)) || !same_bits(alone.tangent, part(together.tangent)))
      return false;
    for (size_t j = 0; j < question.inputs.size(); ++j)
      if (alone.gradient[j].defined() &&
          !(same_bits(alone.gradient[j], part(together.gradient[j])) &&
            same_bits(alone.gradient_tangent[j], part(together.gradient_tangent[j]))))
        return false;
  }
  return true;
}

// 3 clients and 6 examples, of 1 to 17 tokens.
inline BatchShape ragged_batch() {
  return {{0, 5, 6, 23, 26, 34, 36}, {0, 2, 3, 6}};
}

// A function of values as a graph and by torch.
struct Function {
  Build<float> single;
  Build<double> full;
  std::function<Tensor(const std::vector<Tensor>&)> reference;

  // `build` may be called with graphs of either type.
  template <class F>
  Function(F build, std::function<Tensor(const std::vector<Tensor>&)> by_torch)
      : single(build), full(build), reference(std::move(by_torch)) {}
};

// That the graph of a function of values per token agrees with autograd, and that the bits of an example do
// not depend on the others.
inline void check(Processor processor, const Function& function, const std::vector<ValueShape>& inputs,
                  ValueShape result) {
  const Question full = draw_question(ragged_batch(), inputs, result, torch::kFloat64);
  const Question single = draw_question(ragged_batch(), inputs, result, torch::kFloat32);
  EXPECT_LT(worst_difference(ask(kernels<double>(processor), full, function.full),
                             answer(function.reference, full)),
            1e-12);
  EXPECT_LT(worst_difference(ask(kernels<float>(processor), single, function.single),
                             answer(function.reference, single)),
            2e-5);
  EXPECT_TRUE(same_bits_in_any_company(kernels<float>(processor), single, function.single));
}

}  // namespace pf2lora::native
