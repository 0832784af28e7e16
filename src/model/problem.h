// What is to be learned: a frozen model together with what every client holds.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/options.h"
#include "core/random.h"
#include "data/batch.h"
#include "data/partition.h"
#include "io/dataset_file.h"
#include "model/model.h"

namespace pf2lora {

enum class Split { validation, test };

class Problem {
 public:
  virtual ~Problem() = default;
  virtual const Model& model() const = 0;
  // Completes the model: see Model::pack_weights.
  virtual void pack_weights(const FilledMemory&) {}
  // The scale of an adapter of that rank: lora-alpha / rank, or 1 in the matrix problem.
  virtual double scale(int64_t rank) const = 0;

  // The clients' keyed batches of one local step. Slot 0 moves the common parameters in every method.
  virtual Batch training_batch(const std::vector<int64_t>& clients, Purpose purpose, int64_t round,
                               int64_t step, int64_t slot) const = 0;
  // The clients' test or validation examples, cut into batches in a fixed way; empty where they have none.
  virtual std::vector<Batch> evaluation_batches(const std::vector<int64_t>& clients, Split split) const = 0;
  // Those dataset rows of each client, cut in the same way; none where the problem has no examples.
  virtual std::vector<Batch> batches_of(const std::vector<int64_t>&,
                                        std::vector<std::vector<int64_t>>) const {
    return {};
  }

  // Training examples that a client holds, and its mean tokens a local step (what placement goes by).
  virtual int64_t train_examples(int64_t client) const = 0;
  virtual double work(int64_t client) const = 0;

  // What is learned of an example; nullopt for the matrix problem.
  virtual std::optional<Task> task() const { return Task::classification; }
  // Null where the problem has no examples.
  virtual const TokenDataset* dataset() const { return nullptr; }
  // What slices of rows start with instead of a method's start values, by their name (such as <site>/A,
  // head/weight), each of the slice's shape.
  using Start = std::map<std::string, torch::Tensor>;
  virtual const Start& start() const {
    static const Start nothing;
    return nothing;
  }
  // What the losses and right answers of dataset rows are sums over: tokens to be generated, else examples.
  virtual int64_t units(std::span<const int64_t> rows) const { return int64_t(rows.size()); }
  // The classes, or what partitions go by; empty for the matrix problem.
  virtual const std::vector<std::string>& class_names() const = 0;
  virtual const Partition& partition() const = 0;
  // Examples of each class among dataset rows, as the clients that hold them read it: [classes].
  virtual std::vector<int64_t> class_counts(std::span<const int64_t> rows) const = 0;
  // Bytes of all cached states under the lowest adapter, if nothing limits them.
  virtual int64_t prefix_bytes() const = 0;
  // ||W*_k||_F and rank(W*_k) in the matrix problem, 0 elsewhere.
  virtual double target_norm(int64_t client) const = 0;
  virtual int64_t target_rank(int64_t client) const = 0;

  // Facts for the record: sha256 of data and model, tokenizer, source, licence.
  virtual std::vector<std::pair<std::string, std::string>> provenance() const = 0;
};

// Whose batches training draws: each client's own examples, or, as client 0, the examples of all together.
enum class TrainingPool { by_client, all_as_one };

// What a method asks of the problem.
struct Demands {
  TrainingPool pool = TrainingPool::by_client;
  bool prompts = false;  // a model with room for prompts
};

// Reads and checks everything that the options name; the weights are yet to be packed. `local_rank` among the
// ranks of the machine, for --device cuda. Throws InputError or OptionError.
std::unique_ptr<Problem> make_problem(const Options& options, const Demands& demands, int64_t local_rank);

}  // namespace pf2lora
