// How the text of an option becomes its value and back, and the forms that structured options take.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/options.h"

namespace pf2lora {

// What --targets chooses from: the linear layers of a transformer layer that may be adapted.
inline const std::vector<std::string> kTargets = {"query", "key",          "value", "attention-output",
                                                  "gate",  "intermediate", "output"};

// Sets the option's field. Throws OptionError for a text that is not of the option's type or breaks its
// constraint, and for text that an ini file could not hold; the message says what would be allowed.
void assign_value(const OptionEntry& entry, std::string_view text);

// The text that assign_value turns into exactly the present value.
std::string format_value(const OptionEntry& entry);

// "an integer of at least 1", "a number from 0 to 1", "one of adamw, sgd", ...
std::string describe_allowed(const OptionEntry& entry);

// What options may depend on beside one another, from the run's inputs: the dataset's task.
struct InputFact {
  std::string name, value;
};

// Sentences on those options among `given` that have no effect beside the values of the others and the facts;
// a condition on what is neither is left open.
std::vector<std::string> describe_idle(const std::vector<OptionEntry>& options,
                                       const std::vector<std::string>& given,
                                       const std::vector<InputFact>& facts = {});

// Numbers apart by commas; none for empty text. Throws OptionError for an entry that is not a finite number.
std::vector<double> parse_number_list(std::string_view option, std::string_view text);

// One list a client, apart by ';'; a client's list may be empty. Clients beyond the last begin again at the
// first. Throws OptionError.
std::vector<std::vector<double>> parse_client_values(std::string_view option, std::string_view text);

// The increasing numbers of local steps after which clients are evaluated again; empty for `none`, no value
// for `auto`. Throws OptionError.
std::optional<std::vector<int64_t>> parse_adaptation_steps(const std::vector<std::string>& entries);

// The adapted layers in increasing order, counted from 0 at the embeddings, of a model with
// `number_of_layers`. Throws OptionError, also for a layer beyond the model.
std::vector<int64_t> parse_adapted_layers(const std::vector<std::string>& entries, int64_t number_of_layers);

// The same without a model: throws OptionError when `entries` fit no model at all.
void check_adapted_layers(const std::vector<std::string>& entries);

}  // namespace pf2lora
