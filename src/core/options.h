// Every option of a run is declared once, by its line in Options::visit (or in a method's own OptionSet). The
// command line, the ini files, --help, --print-config and the HDF5 attributes all come from that line.
#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace pf2lora {

// What another option, or the task of the dataset ("task"), must be, or must not be, for this one to have an
// effect.
struct Condition {
  std::string option;
  std::vector<std::string> values;
  bool among = true;  // must be one of the values
};

// What values an option takes: a closed interval for numbers (open below where `above`), or a set of names;
// and what it needs of others, without which it has no effect.
struct Constraint {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool above = false;
  std::vector<std::string> choices = {};
  std::vector<Condition> conditions = {};

  Constraint only_with(const std::string& option, const std::vector<std::string>& values) const {
    Constraint result = *this;
    result.conditions.push_back({option, values});
    return result;
  }
  Constraint not_with(const std::string& option, const std::vector<std::string>& values) const {
    Constraint result = *this;
    result.conditions.push_back({option, values, /*among=*/false});
    return result;
  }
};
inline Constraint anything() {
  return {};
}
inline Constraint at_least(double low) {
  return {.low = low};
}
inline Constraint positive() {
  return {.low = 0, .above = true};
}
inline Constraint between(double low, double high) {
  return {.low = low, .high = high};
}
inline Constraint one_of(std::vector<std::string> names) {
  return {.choices = std::move(names)};
}

// Visits options in the order in which --help shows them. The value that `field` holds before parsing is the
// default. Lists are written comma-separated.
class OptionVisitor {
 public:
  virtual ~OptionVisitor() = default;
  virtual void group(std::string_view title) = 0;
  virtual void option(std::string_view name, bool& field, std::string_view help) = 0;
  virtual void option(std::string_view name, int64_t& field, std::string_view help, const Constraint& c) = 0;
  virtual void option(std::string_view name, double& field, std::string_view help, const Constraint& c) = 0;
  virtual void option(std::string_view name, std::string& field, std::string_view help,
                      const Constraint& c) = 0;
  virtual void option(std::string_view name, std::vector<std::string>& field, std::string_view help,
                      const Constraint& c) = 0;
};

// A group of options that belong together: the run's own, or those of one method.
class OptionSet {
 public:
  virtual ~OptionSet() = default;
  virtual void visit(OptionVisitor& visitor) = 0;
};

// One declared option: its line, and a pointer to its field inside the OptionSet that it was listed from.
struct OptionEntry {
  std::string group, name, help;
  Constraint constraint;
  std::variant<bool*, int64_t*, double*, std::string*, std::vector<std::string>*> field;

  bool is_flag() const { return std::holds_alternative<bool*>(field); }
};

// The options of a set in the order of their declaration; valid as long as `options` is.
std::vector<OptionEntry> list_options(OptionSet& options);
// Those of a run, and behind them its method's own; nullptr for a method that has none.
std::vector<OptionEntry> list_options(OptionSet& run, OptionSet* method);

// An option's name and its present value, for records of a run.
struct OptionValue {
  std::string name;
  std::variant<bool, int64_t, double, std::string, std::vector<std::string>> value;
  bool operator==(const OptionValue&) const = default;
};
std::vector<OptionValue> list_values(OptionSet& options);

// The options of every run. Zero, "auto" and empty mean what the help line says.
struct Options : OptionSet {
  // run
  std::string output = "results/run";
  int64_t seed = 1;
  int64_t rounds = 10;
  bool resume = false;
  bool overwrite = false;
  double max_hours = 0;
  int64_t checkpoint_every = 5;
  double checkpoint_minutes = 5;
  int64_t threads = 1;
  std::string device = "cpu";
  std::string progress = "auto";
  std::string profile;
  bool dry_run = false;
  // problem
  std::string problem = "transformer";
  std::string model = "models/minilm";
  std::string data = "data/wordnet.h5";
  std::string pooling = "auto";
  std::string classifier = "auto";
  std::string precision = "auto";
  std::string backend = "auto";
  int64_t prefix_cache = 2048;
  int64_t matrix_rows = 10;
  int64_t matrix_columns = 10;
  std::string matrix_common_values = "3,2.5,2";
  std::string matrix_client_values = ";2.5,2";
  double matrix_noise = 0;
  int64_t matrix_samples = 0;
  // federation
  int64_t clients = 8;
  int64_t clients_per_round = 0;
  int64_t lockstep = 2;
  int64_t held_out_clients = 0;
  std::string partition = "dirichlet";
  double dirichlet_alpha = 0.1;
  double label_sort = 0.9;
  int64_t shards_per_client = 2;
  double quantity_alpha = 0.5;
  double label_conflict = 0;
  int64_t examples_per_client = 0;
  int64_t test_examples_per_client = 0;
  double validation_share = 0;
  double test_share = 0.2;
  int64_t min_examples = 10;
  // adapters
  int64_t rank = 8;
  int64_t client_rank = 2;
  double lora_alpha = 16;
  std::vector<std::string> targets = {"query", "value"};
  std::vector<std::string> adapted_layers = {"all"};
  std::string head = "common";
  std::string start_adapter;
  // training
  std::string algorithm = "pf2lora";
  std::string optimizer = "adamw";
  std::string optimizer_state = "keep";
  std::string schedule = "constant";
  double warmup = 0;
  double clip = 0;
  int64_t local_steps = 10;
  int64_t batch_size = 16;
  double learning_rate = 2e-3;
  double client_learning_rate = 0.1;
  double weight_decay = 0;
  // recording
  int64_t evaluate_every = 1;
  int64_t spectra_every = 1;
  std::vector<std::string> adaptation_steps = {"auto"};
  int64_t confusion_classes = 4;
  // answers
  int64_t answer_every = 0;
  int64_t span_tokens = 30;
  int64_t generate_tokens = 64;
  int64_t beams = 1;
  double length_penalty = 1;
  int64_t no_repeat_ngram = 0;

  void visit(OptionVisitor& visitor) override;
};

// What no single option can tell: limits between options, and the forms of core/option_values.h. Throws
// OptionError.
void check(const Options& options);

}  // namespace pf2lora
