#include "simulation/answers.h"

#include <torch/types.h>

#include <algorithm>
#include <set>

#include "core/error.h"

namespace pf2lora {
namespace {

using Answers = std::map<int64_t, std::vector<double>>;  // of a client, by item

// The token that ends every example.
int32_t end_token(const TokenDataset& data, const Options& options) {
  const int32_t end = data.example(0).back();
  for (int64_t row = 1; row < data.size(); ++row)
    if (data.example(row).back() != end)
      throw InputError("example " + std::to_string(row) + " of " + options.data + " ends in token " +
                       std::to_string(data.example(row).back()) + ", and the first in " +
                       std::to_string(end) +
                       ", so that no token ends a text; prepare the file again with jobs/prepare.py");
  return end;
}

// Test rows of each client: one of each item of a generation, every window of a question.
std::vector<std::vector<int64_t>> rows_to_answer(const Problem& problem, const std::vector<int64_t>& clients,
                                                 Task task) {
  std::vector<std::vector<int64_t>> rows;
  for (int64_t client : clients) {
    std::set<int64_t> seen;
    rows.emplace_back();
    for (int64_t row : problem.partition().clients[size_t(client)].test)
      if (task == Task::span || seen.insert(problem.dataset()->item[size_t(row)]).second)
        rows.back().push_back(row);
  }
  return rows;
}

std::vector<double> numbers(const SpanAnswer& answer) {
  return {answer.row, answer.first, answer.last, answer.score, answer.none};
}

// The better span of two windows, with the lower score of no answer.
void keep_better(std::vector<double>& kept, const SpanAnswer& found) {
  const double none = kept.empty() ? found.none : std::min(kept[4], found.none);
  // Among equal ones the first row's, in whatever order they come.
  if (kept.empty() || found.score > kept[3] || (found.score == kept[3] && found.row < kept[0]))
    kept = numbers(found);
  kept[4] = none;
}

// Of the examples of a batch: spans by `scores` [T, 2].
void add_spans(const Batch& batch, const torch::Tensor& scores, const TokenDataset& data, int64_t most,
               std::vector<Answers>& answers) {
  const torch::Tensor ends = scores.to(torch::kCPU, torch::kFloat64).t().contiguous();  // [2, T]
  const size_t tokens = batch.tokens.size();
  const std::span start(ends.data_ptr<double>(), tokens), end(ends.data_ptr<double>() + tokens, tokens);
  for (size_t g = 0; g < answers.size(); ++g)
    for (auto i = size_t(batch.client_offsets[g]); i < size_t(batch.client_offsets[g + 1]); ++i) {
      const auto row = size_t(batch.examples[i]), from = size_t(batch.token_offsets[i]),
                 length = size_t(batch.length(i));
      SpanAnswer found = best_span(start.subspan(from, length), end.subspan(from, length),
                                   data.context[2 * row], data.context[2 * row + 1], most);
      found.row = double(row);
      keep_better(answers[g][data.item[row]], found);
    }
}

void add_texts(const Batch& batch, const std::vector<std::vector<int32_t>>& texts, const TokenDataset& data,
               int64_t width, std::vector<Answers>& answers) {
  for (size_t g = 0; g < answers.size(); ++g)
    for (auto i = size_t(batch.client_offsets[g]); i < size_t(batch.client_offsets[g + 1]); ++i) {
      std::vector<double> text(texts[i].begin(), texts[i].end());
      text.resize(size_t(width), -1);
      answers[g][data.item[size_t(batch.examples[i])]] = std::move(text);
    }
}

}  // namespace

int64_t AnswerShape::questions() const {
  int64_t count = 0;
  for (const auto& of_client : items) count += int64_t(of_client.size());
  return count;
}

int64_t AnswerShape::width() const {
  return task == Task::span ? int64_t(numbers({}).size()) : rules.most_tokens;
}

AnswerShape answer_shape(const Options& options, const Algorithm& algorithm, const Problem& problem) {
  AnswerShape shape;
  const bool generates = problem.task() == Task::generation && options.generate_tokens > 0;
  if (!generates && problem.task() != Task::span) return shape;
  const TokenDataset& data = *problem.dataset();
  if (generates) {
    if (!algorithm.generates())
      throw OptionError("--algorithm " + options.algorithm +
                        " mixes the scores of two models, with which no text is generated; give "
                        "--generate-tokens 0, or another method");
    shape.rules = {.most_tokens = options.generate_tokens,
                   .beams = options.beams,
                   .no_repeat_ngram = options.no_repeat_ngram,
                   .length_penalty = options.length_penalty,
                   .end_token = end_token(data, options)};
  }
  shape.task = problem.task();
  shape.span_tokens = options.span_tokens;
  shape.common =
      algorithm.common_model(torch::zeros({1, algorithm.common_layout().size()}, problem.model().options()))
          .has_value();
  for (const ClientExamples& client : problem.partition().clients) {
    std::set<int64_t> items;
    for (int64_t row : client.test) items.insert(data.item[size_t(row)]);
    shape.items.emplace_back(items.begin(), items.end());
  }
  return shape;
}

SpanAnswer best_span(std::span<const double> start, std::span<const double> end, int64_t context_first,
                     int64_t context_last, int64_t most) {
  SpanAnswer best{.none = start[0] + end[0]};
  for (int64_t first = context_first; first <= context_last; ++first)
    for (int64_t last = first; last <= std::min(context_last, first + most - 1); ++last)
      if (const double score = start[size_t(first)] + end[size_t(last)]; best.first < 0 || score > best.score)
        best.first = double(first), best.last = double(last), best.score = score;
  return best;
}

std::vector<Batch> batches_to_answer(const Problem& problem, const ClientGroup& group,
                                     const AnswerShape& shape) {
  return problem.batches_of(group.clients, rows_to_answer(problem, group.clients, *shape.task));
}

std::vector<std::vector<double>> answer(const Algorithm& algorithm, const Problem& problem,
                                        const ClientGroup& group, const AnswerShape& shape,
                                        std::span<const Batch> batches) {
  const TokenDataset& data = *problem.dataset();
  const auto ask = [&](const Predictor& model) {
    std::vector<Answers> answers(group.clients.size());
    for (const Batch& batch : batches)
      if (shape.task == Task::span)
        add_spans(batch, model.scores(batch), data, shape.span_tokens, answers);
      else
        add_texts(batch, model.texts(batch, shape.rules), data, shape.width(), answers);
    return answers;
  };
  std::vector<std::vector<double>> records;
  for (int64_t client : group.clients) records.push_back({double(client)});
  const auto append = [&](const std::vector<Answers>& answers) {
    for (size_t g = 0; g < answers.size(); ++g)
      for (const auto& [item, found] : answers[g])
        records[g].insert(records[g].end(), found.begin(), found.end());
  };
  if (const auto common = algorithm.common_predictor(group.common)) {
    const std::vector<Answers> answers = ask(*common);
    append(answers);
    append(algorithm.is_personal() ? ask(algorithm.personal_predictor(group)) : answers);
  } else {
    append(ask(algorithm.personal_predictor(group)));
  }
  return records;
}

std::map<std::string, std::vector<double>> answer_columns(const AnswerShape& shape,
                                                          std::vector<std::vector<double>> records) {
  std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) { return a[0] < b[0]; });
  const std::vector<std::string> names =
      shape.task == Task::span ? std::vector<std::string>{"row", "first", "last", "score", "none"}
                               : std::vector<std::string>{"tokens"};
  const auto width = size_t(shape.width());
  std::map<std::string, std::vector<double>> columns;
  for (const std::string model : {"common", "personal"}) {
    if (model == "common" && !shape.common) continue;
    for (const auto& record : records) {
      const size_t count = shape.items[size_t(record[0])].size() * width;
      const auto begin = record.begin() + 1 + ptrdiff_t(model == "personal" && shape.common ? count : 0);
      for (size_t i = 0; i < count; ++i)
        columns[model + "_answer_" + names[shape.task == Task::span ? i % width : 0]].push_back(
            begin[ptrdiff_t(i)]);
    }
  }
  return columns;
}

}  // namespace pf2lora
