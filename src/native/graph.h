// A network as an order of operations. Each operation knows its value, its gradient, its tangent and the
// tangent of its gradient; a graph runs them forwards or backwards and keeps what the next run reads, and
// nothing else.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "native/parameters.h"
#include "native/pool.h"
#include "native/team_kernels.h"

namespace pf2lora::native {

// What a value has a row for. Targets are the tokens that a batch names, such as those whose successor a
// language model foretells.
enum class Per { token, example, target };

// G clients, N examples, T tokens, R targets of a packed batch.
struct BatchShape {
  std::vector<int64_t> token_offsets;    // [N + 1] into tokens
  std::vector<int64_t> client_examples;  // [G + 1] into examples
  std::vector<int64_t> target_rows;      // [R] of tokens, rising
  std::vector<int64_t> client_targets;   // [G + 1] into target_rows; both empty where nothing is per target
  int64_t clients() const { return int64_t(client_examples.size()) - 1; }
  int64_t examples() const { return int64_t(token_offsets.size()) - 1; }
  int64_t rows(Per per) const {
    if (per == Per::target) return int64_t(target_rows.size());
    return per == Per::example ? examples() : token_offsets.back();
  }
  // The first row of client g; that of client G is the number of rows.
  int64_t begin(Per per, int64_t g) const {
    if (per == Per::target) return client_targets[size_t(g)];
    const int64_t example = client_examples[size_t(g)];
    return per == Per::example ? example : token_offsets[size_t(example)];
  }
};

template <class T>
class Operation;

using ValueId = int;

// How far a pass will go: to the value alone, on to the gradient, or on to the tangent of the gradient.
enum class Reach { value, gradient, tangent };

// One run of a graph over a batch: everything that its operations compute.
template <class T>
class Pass {
 public:
  Pass(const TeamKernels<T>& kernels_to_use, Pool<T>& memory, BatchShape shape, Reach how_far)
      : kernels(kernels_to_use), pool(memory), batch(std::move(shape)), reach(how_far) {}

  const TeamKernels<T> kernels;
  Pool<T>& pool;
  const BatchShape batch;
  const Reach reach;
  PackedAdapters<T> adapters, direction;  // direction: of the tangent
  AdapterTarget<T> target;                // of the gradient, then of its tangent

  // By value, of [rows, width]; empty before they are computed and after their last reader.
  std::vector<Numbers<T>> value, gradient, tangent, gradient_tangent;
  // What operations keep for themselves from one run to the next, by value and by the operation's own
  // numbering.
  std::vector<std::vector<Numbers<T>>> kept;

  Numbers<T> take(int64_t count) { return pool.take(count); }
};

// Where a gradient goes: in place of what is there, or on top of it.
template <class T>
struct Destination {
  T* data = nullptr;
  bool add = false;
};

// An operation with its place in a graph: `inputs` and its one result, `id`.
template <class T>
class Operation {
 public:
  virtual ~Operation() = default;
  virtual const char* name() const = 0;  // for profiles
  virtual void value(Pass<T>& pass) const = 0;
  virtual void gradient(Pass<T>& pass) const = 0;
  virtual void tangent(Pass<T>& pass) const = 0;
  virtual void gradient_tangent(Pass<T>& pass) const = 0;
  // Whether it has adapters of its own, so that its result depends on them whatever its inputs do.
  virtual bool adapted() const { return false; }
  // Whether its value may be written over its first input's, which is of the same size.
  virtual bool overwrites() const { return false; }
  // Whether it reads its inputs' values again for the gradient; its inputs' tangents and its result's
  // gradient again for the tangent of the gradient.
  virtual bool rereads_inputs() const { return false; }
  virtual bool rereads_tangents() const { return false; }
  virtual bool rereads_gradient() const { return false; }

  ValueId id = 0;
  std::vector<ValueId> inputs;
  Per per = Per::token;
  int64_t width = 0;
  bool active = false;                // the result depends on adapters
  std::vector<bool> input_is_active;  // each input's

 protected:
  int64_t size(const Pass<T>& pass) const { return pass.batch.rows(per) * width; }
  // The result, to be written: new memory where there is none yet.
  T* make(std::vector<Numbers<T>>& of, Pass<T>& pass) const {
    Numbers<T>& numbers = of[size_t(id)];
    if (numbers == nullptr) numbers = pass.take(size(pass));
    return numbers.get();
  }
  // Memory of the result's size for what follows from its gradient: the gradient's own, where nothing reads
  // that after this operation.
  Numbers<T> successor(const std::vector<Numbers<T>>& gradient, Pass<T>& pass) const {
    const Numbers<T>& own = gradient[size_t(id)];
    const bool reread = &gradient == &pass.gradient && pass.reach == Reach::tangent && rereads_gradient();
    return own.use_count() == 1 && !reread ? own : pass.take(size(pass));
  }
  const T* input(const std::vector<Numbers<T>>& of, size_t i = 0) const {
    return of[size_t(inputs[i])].get();
  }
  const T* result(const std::vector<Numbers<T>>& of) const { return of[size_t(id)].get(); }
  // `count` numbers kept under the operation's own number `slot`.
  T* keep(Pass<T>& pass, size_t slot, int64_t count) const {
    keep(pass, slot, pass.take(count));
    return pass.kept[size_t(id)][slot].get();
  }
  void keep(Pass<T>& pass, size_t slot, const Numbers<T>& numbers) const {
    auto& kept = pass.kept[size_t(id)];
    if (kept.size() <= slot) kept.resize(slot + 1);
    kept[slot] = numbers;
  }
  const T* kept(const Pass<T>& pass, size_t slot) const { return pass.kept[size_t(id)][slot].get(); }
  // The gradient of an input of `count` numbers, to be written or added to.
  Destination<T> destination(std::vector<Numbers<T>>& of, Pass<T>& pass, size_t i, int64_t count) const;
  // Adds `numbers` to the gradient of an input; shares them where there was none.
  void add(std::vector<Numbers<T>>& of, Pass<T>& pass, size_t i, const Numbers<T>& numbers,
           int64_t count) const;
};

template <class T>
class Graph {
 public:
  // A value that the caller sets before a run; it depends on no adapter.
  ValueId input(Per per, int64_t width);
  ValueId add(std::unique_ptr<Operation<T>> operation, std::vector<ValueId> inputs, Per per, int64_t width);

  bool active(ValueId value) const { return places_[size_t(value)].active; }

  // The caller sets the inputs' value; runs to the last of the values that `read` names, which are then
  // there.
  void value(Pass<T>& pass, std::span<const ValueId> read) const;
  // After value(): the caller sets the gradient of `result`; adapters' gradients go to pass.target.
  void gradient(Pass<T>& pass) const;
  // After gradient(), along pass.direction.
  void tangent(Pass<T>& pass) const;
  // After tangent(): the caller sets the gradient_tangent of the result; goes to pass.target.
  void gradient_tangent(Pass<T>& pass) const;

  void prepare(Pass<T>& pass) const;  // makes room; before the caller sets the inputs

 private:
  struct Place {
    std::unique_ptr<Operation<T>> operation;  // null: an input
    Per per;
    int64_t width;
    bool active;
    int last_reader = -1;          // of the value, in the order of operations
    bool value_is_reread = false;  // for the gradient
    bool tangent_is_reread = false;
  };
  std::vector<Place> places_;
};

}  // namespace pf2lora::native
