// Times local steps of methods on one rank, as the program takes them: the same problem, rows and
// local_steps. Takes requests on standard input and answers each with a line of JSON, so that run.py can
// interleave its blocks with those of another program:
//   start METHOD                             start values of the common parameters by name
//   rows FIRST STEPS                         dataset rows of client 0's batches (slot 0)
//   precisions                               which of bf16 and bf16x3 --precision offers on this processor
//   products ROWS                            rates of products of so many rows, ours and LibTorch's
//   METHOD HYPERGRADIENT LOCKSTEP FIRST STEPS [PRECISION]  seconds and mean loss of each of these steps
// HYPERGRADIENT is - for a method without one; PRECISION is fp32 unless given.
#include <torch/types.h>
#include <torch/utils.h>

#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "algorithm/pf2lora.h"
#include "algorithm/registry.h"
#include "comm/communicator.h"
#include "core/clock.h"
#include "model/model_config.h"
#include "native/kernels.h"
#include "own_product.h"
#include "simulation/run_state.h"

namespace pf2lora {
namespace {

using nlohmann::json;

Options benchmark_options(const std::string& model, const std::string& data) {
  Options options;
  options.model = model;
  options.data = data;
  options.partition = "iid";
  options.clients = 2;
  options.lockstep = 2;
  return options;
}

// FLOP a second of a product that takes so many, in some 20 ms.
double rate(double flop, const std::function<void()>& product) {
  product();
  const Stopwatch watch;
  int64_t calls = 0;
  for (; watch.seconds() < 0.02; ++calls) product();
  return flop * double(calls) / watch.seconds();
}

// A method with the rows of the group that it trains from call to call.
struct Training {
  std::unique_ptr<Algorithm> algorithm;
  ClientGroup group;
};

class Benchmark {
 public:
  explicit Benchmark(const Options& options) : options_(options) {}

  json answer(std::istringstream request) {
    std::string method, hypergradient;
    request >> method;
    if (method == "start") {
      request >> method;
      return start(training(method, "-", 1, "fp32"));
    }
    if (method == "precisions") {
      json offered = json::array();
      if (native::kernels<float>().bf16 != nullptr) offered.push_back("bf16");
      if (native::kernels<float>().bf16x3 != nullptr) offered.push_back("bf16x3");
      return offered;
    }
    int64_t lockstep = 1, first = 0, steps = 0;
    if (method == "rows") {
      request >> first >> steps;
      return rows(first, steps);
    }
    if (method == "products") {
      request >> first;
      return products(first);
    }
    request >> hypergradient >> lockstep >> first >> steps;
    if (!request) throw std::invalid_argument("not a request: " + request.str());
    std::string precision = "fp32";
    request >> precision;
    return take_steps(training(method, hypergradient, lockstep, precision), first, steps);
  }

 private:
  Problem& problem(const std::string& precision) {
    std::unique_ptr<Problem>& found = problems_[precision];
    if (found) return *found;
    Options options = options_;
    options.precision = precision;
    found = make_problem(options, {}, 0);
    found->pack_weights(own_filled_memory);
    return *found;
  }

  Training& training(const std::string& method, const std::string& hypergradient, int64_t lockstep,
                     const std::string& precision) {
    Training& found =
        trainings_[method + "/" + hypergradient + "/" + std::to_string(lockstep) + "/" + precision];
    if (found.algorithm) return found;
    const Problem& problem = this->problem(precision);
    const AlgorithmRow& row = find_algorithm(method);
    const auto own = row.make_options ? row.make_options() : nullptr;
    if (auto* bilevel = dynamic_cast<Pf2LoraOptions*>(own.get())) bilevel->hypergradient = hypergradient;
    found.algorithm = row.make(options_, own.get(), problem);
    const RunState state(*found.algorithm, problem, options_.clients, 1);
    std::vector<int64_t> clients(static_cast<size_t>(lockstep));
    std::iota(clients.begin(), clients.end(), 0);
    found.group = state.clients.group(clients, state.common);
    return found;
  }

  static json start(const Training& training) {
    const LevelRows common = training.algorithm->common_level(training.group);
    json values;
    for (const Slice& slice : common.level->layout().slices()) {
      const torch::Tensor part = common.rows[0].narrow(0, slice.offset, slice.size).contiguous();
      values[slice.name] = std::vector<float>(part.data_ptr<float>(), part.data_ptr<float>() + slice.size);
    }
    return values;
  }

  json rows(int64_t first, int64_t steps) {
    json batches = json::array();
    for (int64_t step = first; step < first + steps; ++step)
      batches.push_back(problem("fp32").training_batch({0}, Purpose::batch, 1, step, 0).examples);
    return batches;
  }

  json products(int64_t rows) const {
    const ModelConfig config = read_model_config(options_.model);
    const int64_t hidden = config.hidden, wide = config.intermediate;
    json all = json::array();
    for (const auto& [in, out] : {std::pair{hidden, hidden}, {hidden, wide}, {wide, hidden}}) {
      const torch::Tensor x = torch::randn({rows, in}), b = torch::randn({in, out});
      torch::Tensor c = torch::empty({rows, out});
      const double flop = 2 * double(rows * in * out);
      all.push_back({{"in", in},
                     {"out", out},
                     {"ours", rate(flop, native::own_product(native::kernels<float>(), x, b, c))},
                     {"torch", rate(flop, [&] { at::mm_out(c, x, b); })}});
    }
    return all;
  }

  static json take_steps(Training& training, int64_t first, int64_t steps) {
    json seconds = json::array(), losses = json::array();
    for (int64_t step = first; step < first + steps; ++step) {
      const Stopwatch watch;
      const LocalReport report =
          training.algorithm->local_steps(training.group, {Purpose::batch, 1, step, 1});
      seconds.push_back(watch.seconds());
      losses.push_back(report.loss[0]);
    }
    return {{"seconds", seconds}, {"loss", losses}};
  }

  const Options options_;
  std::map<std::string, std::unique_ptr<Problem>> problems_;  // by precision
  std::map<std::string, Training> trainings_;
};

}  // namespace
}  // namespace pf2lora

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: step_benchmark MODEL_DIRECTORY DATASET_FILE\n";
    return 2;
  }
  try {
    const pf2lora::MpiSession session;
    torch::set_num_threads(1);
    pf2lora::Benchmark benchmark(pf2lora::benchmark_options(argv[1], argv[2]));
    for (std::string line; std::getline(std::cin, line);)
      std::cout << benchmark.answer(std::istringstream(line)) << std::endl;
  } catch (const std::exception& error) {
    std::cerr << "step_benchmark: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
