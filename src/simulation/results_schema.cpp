#include "simulation/results_schema.h"

#include "simulation/phases.h"
#include "simulation/run_history.h"

namespace pf2lora {

namespace {

// What evaluations measure on one split: of the common model, of the clients', and of adapted copies.
void add_scores(ResultsSchema& schema, const ResultsShape& shape, const std::string& prefix,
                const std::string& split) {
  using enum VariableType;
  const auto add = [&](const std::string& name, const std::string& model, std::vector<std::string> axes) {
    const std::string units = split + (shape.task == Task::generation ? " tokens" : " examples");
    schema.variables.push_back(
        {prefix + name + "_loss", axes, f64, "nat", "loss of " + model + ", summed over " + units});
    if (shape.scores.correlations)
      for (const std::string kind : {"pearson", "spearman"})
        schema.variables.push_back({prefix + name + "_" + kind, axes, f64, "",
                                    "correlation of what " + model + " predicts with what is right"});
    if (!shape.scores.right_answers) return;
    schema.variables.push_back(
        {prefix + name + "_correct", axes, f64, "", units + " that " + model + " gets right"});
    if (shape.scores.confusion_classes == 0) return;
    axes.insert(axes.end(), {"class", "predicted_class"});
    schema.variables.push_back({prefix + name + "_confusion", axes, f64, "",
                                split + " examples by class and by what " + model + " says"});
  };
  add("common", "the common model", {"evaluation", "client"});
  add("personal", "the client's model", {"evaluation", "client"});
  if (!shape.scores.adaptation_steps.empty())
    add("adapted", "the adapted copy", {"evaluation", "adaptation_step", "client"});
}

// What clients answer to their test examples.
void add_answers(ResultsSchema& schema, const AnswerShape& shape) {
  using enum VariableType;
  if (!shape.task) return;
  const bool spans = shape.task == Task::span;
  schema.dimensions.push_back(
      {.name = "answer", .size = kRecordDimension, .description = "round after which answers were recorded"});
  schema.dimensions.push_back({.name = "question", .size = shape.questions()});
  if (!spans) schema.dimensions.push_back({.name = "answer_token", .size = shape.width()});
  const auto add = [&](const std::string& name, std::vector<std::string> axes, VariableType type,
                       const std::string& description) {
    schema.variables.push_back({name, std::move(axes), type, "", description});
  };
  add("question_item", {"question"}, i64, "items of dataset.h5 in the test examples, client after client");
  add("question_offsets", {"client_bound"}, i64, "where each client's questions begin in question_item");
  const auto add_model = [&](const std::string& name, const std::string& model) {
    const std::vector<std::string> axes = {"answer", "question"};
    if (!spans)
      return add(name + "_answer_tokens", {"answer", "question", "answer_token"}, i32,
                 "what " + model + " writes after the prompt, continued with -1");
    add(name + "_answer_row", axes, i64, "row of dataset.h5 in which " + model + " finds the best span");
    add(name + "_answer_first", axes, i32, "first token of that span in its row");
    add(name + "_answer_last", axes, i32, "last token of that span in its row");
    add(name + "_answer_score", axes, f64, "sum of the scores of its ends");
    add(name + "_answer_none", axes, f64, "the lowest such sum over the question's rows for no answer");
  };
  if (shape.common) add_model("common", "the common model");
  add_model("personal", "the client's model");
}

}  // namespace

ResultsSchema results_schema(const ResultsShape& shape) {
  using enum VariableType;
  const bool text = shape.task.has_value();
  const SpectraShape& spectra = shape.spectra;
  ResultsSchema schema;
  schema.dimensions = {
      {.name = "round", .size = kRecordDimension, .description = "communication round, from 1"},
      {.name = "evaluation",
       .size = kRecordDimension,
       .description = "round after which clients were evaluated"},
      {.name = "spectrum",
       .size = kRecordDimension,
       .description = "round after which spectra were measured"},
      {.name = "client", .size = shape.clients},
      {.name = "process", .size = shape.processes, .description = "MPI rank", .may_grow = true},
      {.name = "segment",
       .size = shape.segments,
       .description = "start of the program that went on with the run"},
      {.name = "phase", .size = int64_t(kPhaseNames.size()), .coordinates = kPhaseNames},
      {.name = "site", .size = int64_t(spectra.sites.size()), .description = "adapted matrix"},
      {.name = "common_index", .size = spectra.common},
      {.name = "client_index", .size = spectra.client},
      {.name = "total_index", .size = spectra.total}};
  schema.variables = {
      {"train_loss",
       {"round", "client"},
       f64,
       "nat",
       "mean over the local steps of the loss before each step"},
      {"took_part", {"round", "client"}, i32, "", "1 where the client was in the cohort"},
      {"gradient_evaluations", {"round", "client"}, i64, "", "gradients and tangents computed"},
      {"bytes_up", {"round", "client"}, i64, "byte", "sent by the client"},
      {"bytes_down", {"round", "client"}, i64, "byte", "received by the client"},
      {"client_rank",
       {"round", "client"},
       i64,
       "",
       "rank of what is in use, both levels together, or full with a dense update; 0: took no part"},
      {"phase_seconds", {"round", "phase", "process"}, f64, "s", "wall time by phase"},
      {"parameters_trained",
       {"client"},
       i64,
       "",
       "numbers that the client's local steps change with its first rank, in the round that changes most"},
      {"parameters_stored",
       {"client"},
       i64,
       "",
       "numbers that stay with the client with its first rank, moments included"},
      {"common_singular_values", {"spectrum", "site", "common_index"}, f64, "", "of s B A"},
      {"client_singular_values", {"spectrum", "client", "site", "client_index"}, f64, "", "of s' D_k C_k"},
      {"total_singular_values",
       {"spectrum", "client", "site", "total_index"},
       f64,
       "",
       "of what the client adds to the frozen matrix: s B A + s' D_k C_k and a dense update, or s' D_k C_k "
       "alone"},
      {"subspace_overlap",
       {"spectrum", "client", "site"},
       f64,
       "",
       "||U_1^T U_2||_F^2 / min(rank), 1e-2 threshold"},
      {"norm_ratio", {"spectrum", "client", "site"}, f64, "", "||s' D C||_F / ||s B A||_F"},
      {"cosine", {"spectrum", "client", "site"}, f64, "", "<BA, DC> / (||BA|| ||DC||)"},
      {"site_name", {"site"}, string, "", "module of the site as transformers names it"},
      {"site_target", {"site"}, string, "", "name of the site among --targets"},
      {"site_rows", {"site"}, i64, "", "outputs"},
      {"site_columns", {"site"}, i64, "", "inputs"}};
  const auto add = [&](Variable variable) { schema.variables.push_back(std::move(variable)); };
  for (Variable& variable : history_variables()) add(std::move(variable));
  if (text) {
    schema.dimensions.push_back({.name = "class", .size = int64_t(shape.classes.size())});
    add({"class_name", {"class"}, string, "", "name of the class"});
    for (const auto& [split, rows] : {std::pair<std::string, int64_t>{"train", shape.train_rows},
                                      {"validation", shape.validation_rows},
                                      {"test", shape.test_rows}}) {
      add({split + "_examples", {"client"}, i64, "", split + " examples of the client"});
      if (shape.task == Task::generation)
        add({split + "_tokens", {"client"}, i64, "", split + " tokens to be generated, of the client"});
      schema.dimensions.push_back({.name = split + "_row", .size = rows});
      add({split + "_index", {split + "_row"}, i64, "", "dataset rows, client after client"});
      add({split + "_offsets",
           {"client_bound"},
           i64,
           "",
           "where each client's rows begin in " + split + "_index"});
    }
    schema.dimensions.push_back({.name = "client_bound", .size = shape.clients + 1});
    add({"train_class_counts",
         {"client", "class"},
         i64,
         "",
         "training examples by class as the client reads it"});
    add({"test_class_counts", {"client", "class"}, i64, "", "test examples by class as the client reads it"});
    if (shape.permuted_labels)
      add({"label_map", {"client", "class"}, i64, "", "as which class the client reads each"});
    if (shape.named_clients) add({"client_name", {"client"}, string, "", "what the data call the client"});
  } else {
    add({"relative_error",
         {"evaluation", "client"},
         f64,
         "",
         "||W_k - W*_k||_F / ||W*_k||_F of the client's matrix"});
  }
  if (!shape.scores.adaptation_steps.empty())
    schema.dimensions.push_back({.name = "adaptation_step",
                                 .size = int64_t(shape.scores.adaptation_steps.size()),
                                 .coordinates = shape.scores.adaptation_steps,
                                 .description = "local steps on a copy"});
  if (shape.scores.confusion_classes > 0)
    schema.dimensions.push_back({.name = "predicted_class", .size = shape.scores.confusion_classes});
  add_scores(schema, shape, "", "test");
  if (shape.scores.validation) add_scores(schema, shape, "validation_", "validation");
  add_answers(schema, shape.answers);
  return schema;
}

}  // namespace pf2lora
