#include "model/text_problem.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/sha256.h"
#include "data/sampler.h"
#include "io/dataset_file.h"
#include "model/start_adapter.h"
#include "model/transformer.h"
#include "model/weight_files.h"

namespace pf2lora {
namespace {

constexpr int64_t kEvaluationTokens = 512;  // of a batch, about

// Where the model's directory has a tokenizer, which nothing else here needs.
void check_tokenizer(const TokenDataset& dataset, const Options& options) {
  const std::string file = options.model + "/tokenizer.json";
  if (!std::filesystem::exists(file)) return;
  const std::string digest = sha256_of_files({file});
  if (digest != dataset.tokenizer_sha256)
    throw InputError(options.data + " was tokenised with the tokenizer of " + dataset.tokenizer +
                     " (SHA-256 " + dataset.tokenizer_sha256.substr(0, 12) + "), but " + file +
                     " is another one (" + digest.substr(0, 12) +
                     "); prepare it again with jobs/prepare.py --model " + options.model);
}

void check_fits(const TokenDataset& dataset, const ModelConfig& config, const Options& options) {
  if (dataset.vocabulary_size > config.vocabulary)
    throw InputError(options.data + " was tokenised for a vocabulary of " +
                     std::to_string(dataset.vocabulary_size) + ", but " + options.model + " has " +
                     std::to_string(config.vocabulary) + "; prepare it again with jobs/prepare.py --model " +
                     options.model);
  check_tokenizer(dataset, options);
  const int64_t types = std::max<int64_t>(1, config.token_types);
  if (!dataset.token_types.empty())
    if (const int64_t most = std::ranges::max(dataset.token_types); most >= types)
      throw InputError(options.data + " has tokens of type " + std::to_string(most) + ", but " +
                       options.model + " tells " + std::to_string(types) +
                       " apart (type_vocab_size); prepare it again with jobs/prepare.py --model " +
                       options.model);
  for (int64_t i = 0; i < dataset.size(); ++i)
    if (const int64_t length = dataset.offsets[size_t(i) + 1] - dataset.offsets[size_t(i)];
        length > config.positions)
      throw InputError("row " + std::to_string(i) + " of " + options.data + " has " + std::to_string(length) +
                       " tokens, but " + options.model + " has " + std::to_string(config.positions) +
                       " positions; prepare it again with --max-length " + std::to_string(config.positions));
}

}  // namespace

TextProblem::TextProblem(const Options& options, const Demands& demands, int64_t local_rank)
    : options_(options), dataset_(read_dataset(options.data)) {
  const ModelConfig config = read_model_config(options.model);
  check_fits(dataset_, config, options);
  if (dataset_.task != Task::classification && options.label_conflict > 0)
    throw OptionError("--label-conflict permutes classes, but " + options.data + " is for " +
                      task_name(dataset_.task) + "; leave it out");
  Examples examples{dataset_.labels, dataset_.split, int64_t(dataset_.class_names.size()), dataset_.client,
                    dataset_.client_names};
  if (dataset_.task == Task::span) examples.item = dataset_.item;  // the windows of a question
  partition_ = make_partition(examples, options);
  if (demands.pool == TrainingPool::all_as_one) {
    for (int64_t k = 0; k < options.clients - options.held_out_clients; ++k) {
      const auto& rows = partition_.clients[size_t(k)].train;
      pooled_rows_.insert(pooled_rows_.end(), rows.begin(), rows.end());
    }
    std::sort(pooled_rows_.begin(), pooled_rows_.end());
  }
  model_ = make_transformer(options, config, dataset_.task, int64_t(dataset_.class_names.size()), demands,
                            local_rank);
  if (options.start_adapter.empty()) return;
  if (demands.prompts)
    throw OptionError("--start-adapter names a LoRA, and --algorithm " + options.algorithm +
                      " learns none; leave it out, or choose another method");
  start_ = read_start_adapter(options, config, *model_);
}

const std::vector<int64_t>& TextProblem::training_rows(int64_t client) const {
  return pooled_rows_.empty() ? partition_.clients[size_t(client)].train : pooled_rows_;
}

ExampleColumns TextProblem::columns() const {
  return {dataset_.tokens, dataset_.offsets, partition_.labels, dataset_.token_types,
          dataset_.values, dataset_.span,    dataset_.target};
}

Batch TextProblem::training_batch(const std::vector<int64_t>& clients, Purpose purpose, int64_t round,
                                  int64_t step, int64_t slot) const {
  std::vector<std::vector<int64_t>> rows;
  for (int64_t client : clients)
    rows.push_back(draw_batch(uint64_t(options_.seed), purpose, client, round, step, slot,
                              training_rows(client), options_.batch_size));
  return pack(clients, rows, columns());
}

std::vector<Batch> TextProblem::evaluation_batches(const std::vector<int64_t>& clients, Split split) const {
  std::vector<std::vector<int64_t>> rows;
  for (int64_t client : clients) {
    const ClientExamples& examples = partition_.clients[size_t(client)];
    rows.push_back(split == Split::test ? examples.test : examples.validation);
  }
  return batches_of(clients, std::move(rows));
}

std::vector<Batch> TextProblem::batches_of(const std::vector<int64_t>& clients,
                                           std::vector<std::vector<int64_t>> left) const {
  for (auto& rows : left)  // longest first
    std::stable_sort(rows.begin(), rows.end(),
                     [&](int64_t a, int64_t b) { return dataset_.length(a) > dataset_.length(b); });
  const int64_t budget = std::max<int64_t>(1, kEvaluationTokens / int64_t(clients.size()));  // of a client
  std::vector<Batch> batches;
  while (std::any_of(left.begin(), left.end(), [](const auto& rows) { return !rows.empty(); })) {
    std::vector<std::vector<int64_t>> taken(clients.size());
    for (size_t g = 0; g < clients.size(); ++g)
      for (int64_t tokens = 0; !left[g].empty() && tokens < budget; left[g].pop_back()) {
        taken[g].push_back(left[g].back());
        tokens += dataset_.length(left[g].back());
      }
    batches.push_back(pack(clients, taken, columns()));
  }
  return batches;
}

int64_t TextProblem::prefix_bytes() const {
  int64_t tokens = 0;
  for (const ClientExamples& client : partition_.clients)
    for (const auto* rows : {&client.train, &client.validation, &client.test})
      for (int64_t row : *rows) tokens += dataset_.offsets[size_t(row) + 1] - dataset_.offsets[size_t(row)];
  return tokens * model_->cached_bytes_per_token();
}

int64_t TextProblem::units(std::span<const int64_t> rows) const {
  if (dataset_.task != Task::generation) return int64_t(rows.size());
  int64_t tokens = 0;
  for (int64_t row : rows) tokens += dataset_.length(row) - dataset_.target[size_t(row)];
  return tokens;
}

double TextProblem::work(int64_t client) const {
  const auto& rows = training_rows(client);
  double tokens = 0;
  for (int64_t row : rows)
    tokens += double(dataset_.offsets[size_t(row) + 1] - dataset_.offsets[size_t(row)]);
  const double batch = double(std::min<int64_t>(options_.batch_size, int64_t(rows.size())));
  return rows.empty() ? 0 : tokens / double(rows.size()) * batch;
}

std::vector<std::pair<std::string, std::string>> TextProblem::provenance() const {
  std::vector<std::pair<std::string, std::string>> facts = {
      {"data_name", dataset_.name},
      {"data_task", task_name(dataset_.task)},
      {"data_source", dataset_.source},
      {"data_licence", dataset_.licence},
      {"data_input_sha256", dataset_.sha256},
      {"data_tokenizer", dataset_.tokenizer},
      {"data_sha256", sha256_of_files({options_.data})},
      {"model_sha256", sha256_of_files(weight_file_paths(options_.model))}};
  if (!options_.start_adapter.empty())
    facts.emplace_back("start_adapter_sha256", sha256_of_files(start_adapter_files(options_.start_adapter)));
  return facts;
}

}  // namespace pf2lora
