// The frozen model as methods see it: it takes a batch and whatever adapters a method hands it, and answers
// questions: loss, gradient and tangent; output and its pullback, for methods that mix the outputs of several
// adapter sets; features of the frozen model; text. No method may know how the answers are computed.
#pragma once
#include <torch/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapters/adapter_set.h"
#include "adapters/site.h"
#include "core/memory.h"
#include "data/batch.h"
#include "model/token_search.h"

namespace pf2lora {

// What a gradient keeps of its forward and backward pass, so that a tangent of the same batch and adapters
// recomputes nothing.
class GradientPass {
 public:
  virtual ~GradientPass() = default;
};

// Of N examples (matrix problem: of G clients, and nothing but the loss).
struct Losses {
  torch::Tensor loss;       // [N] nats, summed over an example's units; squared error of a regression
  torch::Tensor predicted;  // [N] class or number, or [N, 2] span; undefined where tokens are generated
  torch::Tensor correct;    // [N] units predicted rightly; undefined where that is no question
  torch::Tensor units;      // [N] tokens to be generated; undefined: 1
};

struct Gradient {
  torch::Tensor loss;                  // [G] mean over a client's units, before any step
  AdapterSet rows;                     // d loss[g] / d adapters[g]
  std::unique_ptr<GradientPass> pass;  // null unless kept
};

// What an output keeps of its forward pass for a pullback.
class OutputPass {
 public:
  virtual ~OutputPass() = default;
};

struct Output {
  torch::Tensor values;              // [S, classes] scores before the softmax, a row each example, token or
                                     // token to be generated (matrix problem: the matrix of each client, [G,
                                     // rows * columns])
  torch::Tensor example;             // [S] int64, whose each row is; undefined in the matrix problem
  std::unique_ptr<OutputPass> pass;  // null unless kept
};

// What outputs are worth.
struct OutputLoss {
  Losses examples;
  torch::Tensor loss;       // [G] mean over a client's units
  torch::Tensor cotangent;  // of the outputs' shape: d loss[g] / d output of client g's rows
};

enum class Keep { nothing, pass };

// As --precision names it.
std::string precision_name(const torch::TensorOptions& options);

class Model {
 public:
  virtual ~Model() = default;
  virtual const std::vector<Site>& sites() const = 0;  // adapted sites, in the order of AdapterSet::pairs
  virtual std::optional<HeadShape> head() const = 0;   // nullopt where adapters carry none
  // Of features(); nullopt where the problem has no examples.
  virtual std::optional<int64_t> feature_width() const = 0;
  virtual torch::TensorOptions options() const = 0;    // type and device of rows and adapters
  // Where prompts may stand; nullopt where the problem has no tokens.
  virtual std::optional<PromptRoom> prompt_room() const = 0;
  virtual int64_t frozen_parameters() const = 0;
  // Bytes of frozen weights that the model keeps in a layout of its own, the same in every process, and their
  // making: once, before the first question.
  virtual int64_t packed_bytes() const { return 0; }
  virtual void pack_weights(const FilledMemory&) {}
  // What computes the answers, for people: "native avx512 fp32".
  virtual std::string backend() const = 0;
  // Bytes that the cached states of one token take; 0 where nothing is cached.
  virtual int64_t cached_bytes_per_token() const { return 0; }

  virtual Losses loss(const Batch& batch, const AdapterSet& adapters) const = 0;
  virtual Gradient gradient(const Batch& batch, const AdapterSet& adapters,
                            Keep keep = Keep::nothing) const = 0;
  // The derivative of gradient().rows along a direction of the adapters (a Hessian-vector product). A pass
  // serves one tangent.
  virtual AdapterSet tangent(GradientPass& pass, const AdapterSet& direction) const = 0;

  // gradient() in three steps, between which a method may mix outputs: it is the pullback of the cotangent of
  // the loss. A pass serves one pullback, while the adapters still have the values of its output.
  virtual Output output(const Batch& batch, const AdapterSet& adapters, Keep keep = Keep::nothing) const = 0;
  virtual OutputLoss output_loss(const Batch& batch, const torch::Tensor& output) const = 0;
  // d <output, cotangent> / d adapters: the rows of client g from the outputs of its examples.
  virtual AdapterSet pullback(OutputPass& pass, const torch::Tensor& cotangent) const = 0;

  // What the head would read of an example in the frozen model without any adapter, or, where it reads many
  // rows, the state of the first one scored: [N, width], the same bits in whatever batch an example stands.
  // Throws OptionError where the problem has no examples.
  virtual torch::Tensor features(const Batch& batch) const = 0;

  // [N] the new tokens of what each example's prompt, its tokens before the target, is continued with,
  // without the end token. Throws OptionError where the model generates no text.
  virtual std::vector<std::vector<int32_t>> generate(const Batch& batch, const AdapterSet& adapters,
                                                     const GenerationRules& rules) const;
};

}  // namespace pf2lora
