// What clients answer to their own test examples, to be written down word for word: texts that they generate
// after prompts, spans that they find in contexts.
#pragma once
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "simulation/client_store.h"

namespace pf2lora {

// What is recorded of an answer round. A question is an item of the dataset: examples with the same prompt,
// or the windows of a context, count once for each client.
struct AnswerShape {
  std::optional<Task> task;  // generation or span; nullopt: nothing is recorded
  bool common = false;       // there is a common model
  int64_t span_tokens = 0;   // most of a span
  GenerationRules rules{};
  std::vector<std::vector<int64_t>> items = {};  // of each client's test examples, rising

  int64_t questions() const;
  // Numbers of an answer: tokens, or those of SpanAnswer.
  int64_t width() const;
};

// Throws OptionError where the method does not generate, and InputError where examples end in unlike tokens.
AnswerShape answer_shape(const Options& options, const Algorithm& algorithm, const Problem& problem);

// The best span of a question, over all of its windows.
struct SpanAnswer {
  double row = -1;               // the window, a row of the dataset
  double first = -1, last = -1;  // tokens of it
  double score = 0;              // sum of the scores of its ends
  // The lowest such sum over windows for their first token, which stands for no answer at all.
  double none = 0;
};

// The span of the highest sum start[first] + end[last] with begin <= first <= last <= end of the context and
// at most `most` tokens; the first of equal ones.
SpanAnswer best_span(std::span<const double> start, std::span<const double> end, int64_t context_first,
                     int64_t context_last, int64_t most);

// The test examples that a group's clients answer, in batches.
std::vector<Batch> batches_to_answer(const Problem& problem, const ClientGroup& group,
                                     const AnswerShape& shape);

// The answers of a group's clients to these batches, a record each: the client, then width() numbers for each
// of its questions from the common model, where there is one, and as many from its own. Texts are continued
// with -1.
std::vector<std::vector<double>> answer(const Algorithm& algorithm, const Problem& problem,
                                        const ClientGroup& group, const AnswerShape& shape,
                                        std::span<const Batch> batches);

// Those of all clients, in their order, as the variables of results.h5.
std::map<std::string, std::vector<double>> answer_columns(const AnswerShape& shape,
                                                          std::vector<std::vector<double>> records);

}  // namespace pf2lora
