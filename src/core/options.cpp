#include "core/options.h"

#include <algorithm>
#include <iterator>

#include "core/option_values.h"

namespace pf2lora {
namespace {

class Lister : public OptionVisitor {
 public:
  std::vector<OptionEntry> entries;

  void group(std::string_view title) override { group_ = title; }
  void option(std::string_view name, bool& field, std::string_view help) override {
    add(name, &field, help, anything());
  }
  void option(std::string_view name, int64_t& field, std::string_view help, const Constraint& c) override {
    add(name, &field, help, c);
  }
  void option(std::string_view name, double& field, std::string_view help, const Constraint& c) override {
    add(name, &field, help, c);
  }
  void option(std::string_view name, std::string& field, std::string_view help,
              const Constraint& c) override {
    add(name, &field, help, c);
  }
  void option(std::string_view name, std::vector<std::string>& field, std::string_view help,
              const Constraint& c) override {
    add(name, &field, help, c);
  }

 private:
  void add(std::string_view name, auto* field, std::string_view help, const Constraint& c) {
    entries.push_back({group_, std::string(name), std::string(help), c, field});
  }

  std::string group_;
};

// Methods that adapt no matrix: prompts stand in every layer, or before all of them, so nothing stays frozen
// under the lowest adapter.
const std::vector<std::string> without_pairs = {"prompt", "prefix"};

}  // namespace

std::vector<OptionEntry> list_options(OptionSet& options) {
  Lister lister;
  options.visit(lister);
  return std::move(lister.entries);
}

std::vector<OptionEntry> list_options(OptionSet& run, OptionSet* method) {
  std::vector<OptionEntry> entries = list_options(run);
  if (method != nullptr) std::ranges::move(list_options(*method), std::back_inserter(entries));
  return entries;
}

std::vector<OptionValue> list_values(OptionSet& options) {
  std::vector<OptionValue> values;
  for (const OptionEntry& entry : list_options(options)) {
    OptionValue value{entry.name, {}};
    std::visit([&](const auto* field) { value.value = *field; }, entry.field);
    values.push_back(std::move(value));
  }
  return values;
}

void Options::visit(OptionVisitor& v) {
  v.group("run");
  v.option("output", output, "directory of this run's files; made once every input was checked", anything());
  v.option("seed", seed, "seed of every random draw", at_least(0));
  v.option("rounds", rounds, "communication rounds; 0: the models are evaluated as they start", at_least(0));
  v.option("resume", resume,
           "go on from the checkpoint in the output directory, with the options in its options.ini");
  v.option("overwrite", overwrite, "replace an output directory that exists");
  v.option("max-hours", max_hours, "checkpoint and exit 85 before this many hours have passed; 0: no limit",
           at_least(0));
  v.option("checkpoint-every", checkpoint_every, "rounds between checkpoints; 0: for the time alone",
           at_least(0));
  v.option("checkpoint-minutes", checkpoint_minutes,
           "a round that ends so long after the last checkpoint saves one too; 0: for rounds alone, and "
           "with both 0 only when stopped",
           at_least(0));
  v.option("threads", threads, "threads of a rank, which share out the work of a client's step",
           between(1, 1024));
  v.option("device", device, "where the model runs; cuda: a GPU a rank, in turn", one_of({"cpu", "cuda"}));
  v.option("progress", progress,
           "bar in a terminal, or lines in a log, of quick rounds not each; auto tells which",
           one_of({"auto", "bar", "lines", "off"}));
  v.option("profile", profile,
           "file for the times of phases and operations, as trace viewers read them (Perfetto, "
           "chrome://tracing)",
           anything());
  v.option(
      "dry-run", dry_run,
      "check everything, make a few steps, print placement, memory, time and bytes a round, keep nothing");

  v.group("problem");
  v.option("problem", problem, "what is learned: text, or the synthetic matrices",
           one_of({"transformer", "matrix"}));
  v.option("model", model, "directory with config.json and model.safetensors",
           anything().only_with("problem", {"transformer"}));
  v.option("data", data, "dataset.h5 made by jobs/prepare.py",
           anything().only_with("problem", {"transformer"}));
  v.option(
      "pooling", pooling,
      "what the head reads of an example: the raw state of its first token (cls) or of its last one, the "
      "file's pooler, the mean; auto: cls, and last where tokens see only those before them",
      one_of({"auto", "cls", "pooler", "mean", "last"})
          .only_with("problem", {"transformer"})
          .only_with("task", {"classification", "regression"}));
  v.option(
      "classifier", classifier,
      "layers of the head: its scores alone, or a dense layer before them, trained too; auto: dense where "
      "the model's family has it so in transformers (roberta, deberta-v2, distilbert)",
      one_of({"auto", "linear", "dense"})
          .only_with("problem", {"transformer"})
          .only_with("task", {"classification", "regression"}));
  v.option("precision", precision,
           "arithmetic; auto: fp32, and fp64 for the matrix problem; bf16: weights and what they multiply "
           "rounded to bf16, everything else fp32; bf16x3: each of those as the sum of three bf16 numbers, "
           "as exact as fp32 and for processors with AMX",
           one_of({"auto", "bf16", "bf16x3", "fp32", "fp64"}));
  v.option("backend", backend,
           "implementation of the model: LibTorch's operations (reference), or ours for the "
           "processor (native); auto: native where it covers the run",
           one_of({"auto", "native", "reference"}));
  v.option("prefix-cache", prefix_cache,
           "MiB a rank for the frozen states under the lowest adapter; 0: none kept",
           between(0, 1048576).only_with("problem", {"transformer"}).not_with("algorithm", without_pairs));
  v.option("matrix-rows", matrix_rows, "rows of the matrix problem's targets",
           at_least(1).only_with("problem", {"matrix"}));
  v.option("matrix-columns", matrix_columns, "columns of the matrix problem's targets",
           at_least(1).only_with("problem", {"matrix"}));
  v.option("matrix-common-values", matrix_common_values, "singular values that all targets share",
           anything().only_with("problem", {"matrix"}));
  v.option("matrix-client-values", matrix_client_values,
           "further singular values by client, clients apart by ';'; repeated when there are more clients",
           anything().only_with("problem", {"matrix"}));
  v.option("matrix-noise", matrix_noise, "standard deviation of the noise in what training sees of a target",
           at_least(0).only_with("problem", {"matrix"}));
  v.option("matrix-samples", matrix_samples,
           "random inputs at which a client sees its target's outputs; 0: the target itself",
           at_least(0).only_with("problem", {"matrix"}));

  v.group("federation");
  v.option("clients", clients, "clients, held-out ones included", between(1, 524288));
  v.option("clients-per-round", clients_per_round, "clients drawn in a round; 0: all", at_least(0));
  v.option("lockstep", lockstep, "clients of a group that train as one batch", between(1, 4096));
  v.option("held-out-clients", held_out_clients, "clients that never train, the last ones", at_least(0));
  v.option("partition", partition, "how examples are shared out (--list)",
           anything().only_with("problem", {"transformer"}));
  v.option("dirichlet-alpha", dirichlet_alpha, "concentration of the Dirichlet partition",
           between(1e-3, 1e3).only_with("partition", {"dirichlet"}));
  v.option("label-sort", label_sort, "heterogeneity of the label-sort partition",
           between(0, 1).only_with("partition", {"label-sort"}));
  v.option("shards-per-client", shards_per_client, "shards of a client in the shards partition",
           at_least(1).only_with("partition", {"shards"}));
  v.option("quantity-alpha", quantity_alpha, "concentration of the sizes in the quantity partition",
           between(1e-3, 1e3).only_with("partition", {"quantity"}));
  v.option("label-conflict", label_conflict,
           "share of the clients that read their labels through a permutation of the classes",
           between(0, 1).only_with("problem", {"transformer"}));
  v.option("examples-per-client", examples_per_client,
           "training examples of a client (on average in the quantity partition); 0: all are shared out",
           at_least(0).only_with("problem", {"transformer"}));
  v.option("test-examples-per-client", test_examples_per_client,
           "test examples of a client; 0: all are shared out",
           at_least(0).only_with("problem", {"transformer"}));
  v.option("validation-share", validation_share, "share of a client's training examples set aside",
           between(0, 0.9).only_with("problem", {"transformer"}));
  v.option(
      "test-share", test_share,
      "share of a client's rows kept for its test set where the field partition finds no test rows that fit",
      between(0.01, 0.9).only_with("partition", {"field"}));
  v.option("min-examples", min_examples, "fewest training examples of a client",
           at_least(1).only_with("problem", {"transformer"}));

  v.group("adapters");
  v.option("rank", rank, "rank r of the common adapter", at_least(1).not_with("algorithm", without_pairs));
  v.option("client-rank", client_rank, "rank r~ of a client's own adapter; 0: none",
           at_least(0).only_with("algorithm", {"pf2lora"}));
  v.option("lora-alpha", lora_alpha, "scale of an adapter is lora-alpha / its rank",
           positive().only_with("problem", {"transformer"}).not_with("algorithm", without_pairs));
  v.option("targets", targets, "adapted matrices of a layer",
           one_of(kTargets).only_with("problem", {"transformer"}).not_with("algorithm", without_pairs));
  v.option("adapted-layers", adapted_layers, "all, top:k, or layer numbers from 0",
           anything().only_with("problem", {"transformer"}).not_with("algorithm", without_pairs));
  v.option("head", head, "who owns the classification head",
           one_of({"common", "personal"}).only_with("problem", {"transformer"}));
  v.option("start-adapter", start_adapter,
           "folder of a LoRA as PEFT saves it, which the common adapter, and the head where it holds one, "
           "start as",
           anything().only_with("problem", {"transformer"}));

  v.group("training");
  v.option("algorithm", algorithm, "method (--list)", anything());
  v.option("optimizer", optimizer, "rule of the common parameters", one_of({"adamw", "sgd"}));
  v.option("optimizer-state", optimizer_state,
           "moments across rounds: keep each client's own, average into one, reset",
           one_of({"keep", "average", "reset"}).only_with("optimizer", {"adamw"}));
  v.option("schedule", schedule, "learning rates over the rounds", one_of({"constant", "cosine"}));
  v.option("warmup", warmup, "share of the rounds in which the learning rates rise from 0", between(0, 1));
  v.option("clip", clip, "largest norm of a client's gradient; 0: none", at_least(0));
  v.option("local-steps", local_steps, "local steps of a client in a round", at_least(1));
  v.option("batch-size", batch_size, "examples of a client in a batch",
           at_least(1).only_with("problem", {"transformer"}));
  v.option("learning-rate", learning_rate, "rate of the common parameters", positive());
  v.option("client-learning-rate", client_learning_rate, "rate of a client's own parameters",
           positive().only_with("algorithm", {"pf2lora", "prompt", "prefix"}));
  v.option("weight-decay", weight_decay, "decoupled weight decay of the common parameters", at_least(0));

  v.group("recording");
  v.option("evaluate-every", evaluate_every, "rounds between evaluations; 0: only the last", at_least(0));
  v.option("spectra-every", spectra_every, "rounds between spectra; 0: only the last", at_least(0));
  v.option(
      "adaptation-steps", adaptation_steps,
      "local steps on a throw-away copy after which clients are also evaluated, such as 5,10; none; auto: "
      "local-steps for a method without a personal part, or with held-out clients",
      anything());
  v.option("confusion-classes", confusion_classes,
           "confusion matrices are recorded for at most this many classes (MCC, F1); 0: never",
           at_least(0).only_with("problem", {"transformer"}).only_with("task", {"classification"}));

  const auto of_answers = [](const Constraint& c, const std::vector<std::string>& tasks) {
    return c.only_with("problem", {"transformer"}).only_with("task", tasks);
  };
  const auto of_texts = [&](const Constraint& c) {
    return of_answers(c, {"generation"}).not_with("generate-tokens", {"0"});
  };
  v.group("answers");
  v.option("answer-every", answer_every,
           "rounds between records of what clients answer to their test examples, where these are questions "
           "about a text (spans) or prompts (generation); 0: only the last",
           of_answers(at_least(0), {"span", "generation"}));
  v.option("span-tokens", span_tokens, "most tokens of a span", of_answers(at_least(1), {"span"}));
  v.option("generate-tokens", generate_tokens, "most new tokens of a generated text; 0: none is generated",
           of_answers(at_least(0), {"generation"}));
  v.option("beams", beams, "sequences that the search for a text keeps; 1: it follows the likeliest token",
           of_texts(between(1, 1024)));
  v.option("length-penalty", length_penalty,
           "with several beams, a text of n tokens is worth its log-probability / n^this",
           of_texts(between(-100, 100)).not_with("beams", {"1"}));
  v.option("no-repeat-ngram", no_repeat_ngram,
           "no generated text has so many tokens in a row twice; 0: it may", of_texts(at_least(0)));
}

}  // namespace pf2lora
