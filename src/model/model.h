// The frozen model as methods see it: it takes a batch and whatever adapters a method hands it, and answers
// three questions: loss, gradient, tangent. No method may know how the answers are computed.
#pragma once
#include <torch/types.h>

#include <memory>
#include <optional>
#include <vector>

#include "adapters/adapter_set.h"
#include "adapters/site.h"
#include "data/batch.h"

namespace pf2lora {

// What a gradient keeps of its forward and backward pass, so that a tangent of the same batch and adapters
// recomputes nothing.
class GradientPass {
 public:
  virtual ~GradientPass() = default;
};

struct Losses {
  torch::Tensor loss;       // [N] of each example, nats (matrix problem: [G] of each client)
  torch::Tensor predicted;  // [N] class, int64; undefined where the problem has none
};

struct Gradient {
  torch::Tensor loss;                  // [G] mean over a client's examples, before any step
  AdapterSet rows;                     // d loss[g] / d adapters[g]
  std::unique_ptr<GradientPass> pass;  // null unless kept
};

enum class Keep { nothing, pass };

class Model {
 public:
  virtual ~Model() = default;
  virtual const std::vector<Site>& sites() const = 0;  // adapted sites, in the order of AdapterSet::pairs
  virtual std::optional<HeadShape> head() const = 0;   // nullopt where the problem has no head
  virtual torch::TensorOptions options() const = 0;    // type and device of rows and adapters
  virtual int64_t frozen_parameters() const = 0;

  virtual Losses loss(const Batch& batch, const AdapterSet& adapters) const = 0;
  virtual Gradient gradient(const Batch& batch, const AdapterSet& adapters,
                            Keep keep = Keep::nothing) const = 0;
  // The derivative of gradient().rows along a direction of the adapters (a Hessian-vector product). A pass
  // serves one tangent.
  virtual AdapterSet tangent(GradientPass& pass, const AdapterSet& direction) const = 0;
};

}  // namespace pf2lora
