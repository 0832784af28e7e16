// AdamW and SGD on flat client rows, as torch.optim defines them: decoupled weight decay, bias correction by
// each client's own number of steps.
#pragma once
#include <torch/types.h>

#include <string>
#include <vector>

#include "adapters/parameter_layout.h"
#include "core/options.h"

namespace pf2lora {

enum class Rule { adamw, sgd };

class RowOptimizer {
 public:
  // Of rows with `size` parameters. beta = (0.9, 0.999), epsilon = 1e-8, no momentum in SGD.
  RowOptimizer(Rule rule, int64_t size, double weight_decay);

  // The state of a row: moment1 [size], moment2 [size], steps [1]; nothing for SGD. Starts as zeros.
  const ParameterLayout& state_layout() const { return state_layout_; }

  // One step in place: rows [G, size], gradient [G, size], state [G, state_layout().size()].
  void step(torch::Tensor rows, const torch::Tensor& gradient, torch::Tensor state, double rate) const;
  // How far a step of that rate has moved the parameters of a block along a gradient of 1 that lasts, [G]
  // double: the rate, which AdamW divides by the root mean square of the gradients that it has seen there.
  torch::Tensor response(const torch::Tensor& state, Block block, double rate) const;

 private:
  template <class T>
  void adamw(torch::Tensor& rows, const torch::Tensor& gradient, torch::Tensor& state, double rate) const;

  Rule rule_;
  int64_t size_;
  double weight_decay_;
  ParameterLayout state_layout_;
};

// The rate of a local step under --schedule and --warmup, `base` being the rate without them.
double scheduled_rate(const Options& options, double base, int64_t round, int64_t step);

// Scales rows of the gradient [G, P] whose norm is above `largest` (0: none) down to it.
void clip_rows(torch::Tensor& gradient, double largest);

// Throws NumericalError naming the client, round and step of the first row with a value that is not finite.
void check_finite(const torch::Tensor& rows, const std::vector<int64_t>& clients, const std::string& what,
                  int64_t round, int64_t step);

}  // namespace pf2lora
