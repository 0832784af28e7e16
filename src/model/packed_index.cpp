#include "model/packed_index.h"

#include <torch/torch.h>

#include <algorithm>

namespace pf2lora {

using torch::Tensor;

PackedIndex index_batch(const Batch& batch, int64_t heads, const torch::TensorOptions& options,
                        int64_t prompt) {
  const int64_t clients = int64_t(batch.clients.size());
  const int64_t tokens = int64_t(batch.tokens.size());
  PackedIndex index;
  index.examples = int64_t(batch.examples.size());
  const int64_t rows = tokens + prompt * index.examples;

  const auto integers = [](Tensor& tensor, int64_t count) {
    tensor = torch::empty({count}, torch::kInt64);
    return tensor.data_ptr<int64_t>();
  };
  int64_t* const token = integers(index.tokens, tokens);
  int64_t* const position = integers(index.positions, tokens);
  int64_t* const example = integers(index.example, rows);
  int64_t* const first = integers(index.first, index.examples);
  int64_t* const client = integers(index.client, index.examples);
  int64_t* const label = integers(index.labels, index.examples);
  int64_t* const source = integers(index.sources, rows);
  int64_t* const token_row = integers(index.token_rows, tokens);
  Tensor share = torch::zeros({clients, index.examples}, torch::kFloat64);

  std::vector<int64_t> row_offsets = {0};
  for (int64_t i = 0, row = 0; i < index.examples; ++i) {
    const int64_t begin = batch.token_offsets[i], end = batch.token_offsets[i + 1];
    first[i] = row;
    label[i] = batch.labels[i];
    for (int64_t t = begin; t < end; ++t) {
      token[t] = batch.tokens[t];
      position[t] = t - begin;
      token_row[t] = row;
      source[row++] = t;
      for (int64_t p = 0; t == begin && p < prompt; ++p) source[row++] = tokens + i * prompt + p;
    }
    std::fill(example + row_offsets.back(), example + row, i);
    row_offsets.push_back(row);
  }
  for (int64_t g = 0; g < clients; ++g) {
    const int64_t begin = batch.client_offsets[g], end = batch.client_offsets[g + 1];
    index.client_examples.push_back(end - begin);
    index.client_tokens.push_back(row_offsets[end] - row_offsets[begin]);
    std::fill(client + begin, client + end, g);
    std::fill_n(share.data_ptr<double>() + g * index.examples + begin, end - begin,
                1.0 / double(end - begin));
  }

  index.attention = index_attention(row_offsets, heads, options);
  index.share = share.to(options);
  for (Tensor* tensor : {&index.tokens, &index.positions, &index.example, &index.first, &index.client,
                         &index.labels, &index.sources, &index.token_rows})
    *tensor = tensor->to(options.device());
  if (prompt == 0) index.sources = index.token_rows = Tensor();
  return index;
}

}  // namespace pf2lora
