#include "model/packed_index.h"

#include <torch/types.h>

#include <algorithm>
#include <numeric>

namespace pf2lora {

using torch::Tensor;

namespace {

Tensor integers(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kInt64);
}

// Fills what tells the tokens to be generated; `rows` are those of the tokens.
void index_targets(const Batch& batch, const int64_t* rows, PackedIndex& index) {
  std::vector<int64_t> read_from, token, example;
  for (size_t i = 0; i + 1 < batch.token_offsets.size(); ++i) {
    for (int64_t t = batch.token_offsets[i] + batch.targets[i]; t < batch.token_offsets[i + 1]; ++t) {
      read_from.push_back(rows[t - 1]);
      token.push_back(batch.tokens[size_t(t)]);
      example.push_back(int64_t(i));
    }
  }
  index.target_rows = integers(read_from);
  index.target_tokens = integers(token);
  index.target_example = integers(example);
}

}  // namespace

PackedIndex index_batch(const Batch& batch, int64_t heads, const torch::TensorOptions& options,
                        int64_t prompt, bool causal) {
  const int64_t clients = int64_t(batch.clients.size());
  const int64_t tokens = int64_t(batch.tokens.size());
  PackedIndex index;
  index.examples = int64_t(batch.examples.size());
  const int64_t rows = tokens + prompt * index.examples;

  const auto room = [](Tensor& tensor, int64_t count) {
    tensor = torch::empty({count}, torch::kInt64);
    return tensor.data_ptr<int64_t>();
  };
  int64_t* const token = room(index.tokens, tokens);
  int64_t* const position = room(index.positions, tokens);
  int64_t* const example = room(index.example, rows);
  int64_t* const token_example = room(index.token_example, tokens);
  int64_t* const first = room(index.first, index.examples);
  int64_t* const last = room(index.last, index.examples);
  int64_t* const client = room(index.client, index.examples);
  int64_t* const source = room(index.sources, rows);
  int64_t* const token_row = room(index.token_rows, tokens);

  std::vector<int64_t> row_offsets = {0};
  for (int64_t i = 0, row = 0; i < index.examples; ++i) {
    const int64_t begin = batch.token_offsets[i], end = batch.token_offsets[i + 1];
    first[i] = row;
    for (int64_t t = begin; t < end; ++t) {
      token[t] = batch.tokens[t];
      position[t] = t - begin;
      token_example[t] = i;
      token_row[t] = row;
      source[row++] = t;
      for (int64_t p = 0; t == begin && p < prompt; ++p) source[row++] = tokens + i * prompt + p;
    }
    last[i] = token_row[end - 1];
    std::fill(example + row_offsets.back(), example + row, i);
    row_offsets.push_back(row);
  }
  if (!batch.targets.empty()) index_targets(batch, token_row, index);
  Tensor units = torch::ones({index.examples}, torch::kFloat64);
  double* const unit = units.data_ptr<double>();
  for (size_t i = 0; i < batch.targets.size(); ++i) unit[i] = double(batch.length(i) - batch.targets[i]);

  Tensor share = torch::zeros({clients, index.examples}, torch::kFloat64);
  for (int64_t g = 0; g < clients; ++g) {
    const int64_t begin = batch.client_offsets[g], end = batch.client_offsets[g + 1];
    index.client_examples.push_back(end - begin);
    index.client_tokens.push_back(row_offsets[end] - row_offsets[begin]);
    index.client_own_tokens.push_back(batch.token_offsets[end] - batch.token_offsets[begin]);
    std::fill(client + begin, client + end, g);
    const double units = std::accumulate(unit + begin, unit + end, 0.0);
    index.client_targets.push_back(int64_t(units));
    std::fill_n(share.data_ptr<double>() + g * index.examples + begin, end - begin, 1.0 / units);
  }

  index.attention = index_attention(row_offsets, heads, options, causal);
  index.share = share.to(options);
  index.units = units.to(options);
  if (!batch.labels.empty()) index.labels = torch::tensor(batch.labels).to(torch::kInt64);
  if (!batch.token_types.empty()) index.types = torch::tensor(batch.token_types).to(torch::kInt64);
  if (!batch.values.empty()) index.values = torch::tensor(batch.values).to(options);
  if (!batch.spans.empty()) index.spans = torch::tensor(batch.spans).to(torch::kInt64).view({-1, 2});
  for (Tensor* tensor :
       {&index.tokens, &index.positions, &index.types, &index.example, &index.token_example, &index.first,
        &index.last, &index.client, &index.labels, &index.spans, &index.sources, &index.token_rows,
        &index.target_rows, &index.target_tokens, &index.target_example})
    if (tensor->defined()) *tensor = tensor->to(options.device());
  if (prompt == 0) index.sources = index.token_rows = Tensor();
  return index;
}

}  // namespace pf2lora
