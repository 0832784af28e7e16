#include "model/packed_index.h"

#include <torch/torch.h>

#include <algorithm>

namespace pf2lora {

PackedIndex index_batch(const Batch& batch, int64_t heads, const torch::TensorOptions& options) {
  const auto integers = torch::dtype(torch::kInt64);
  const int64_t clients = int64_t(batch.clients.size());
  const int64_t tokens = int64_t(batch.tokens.size());
  PackedIndex index;
  index.examples = int64_t(batch.examples.size());

  index.tokens = torch::empty({tokens}, integers);
  index.positions = torch::empty({tokens}, integers);
  index.example = torch::empty({tokens}, integers);
  index.first = torch::empty({index.examples}, integers);
  index.labels = torch::empty({index.examples}, integers);
  auto share = torch::zeros({clients, index.examples}, torch::kFloat64);

  for (int64_t i = 0; i < index.examples; ++i) {
    const int64_t begin = batch.token_offsets[i], end = batch.token_offsets[i + 1];
    index.first.data_ptr<int64_t>()[i] = begin;
    index.labels.data_ptr<int64_t>()[i] = batch.labels[i];
    for (int64_t t = begin; t < end; ++t) {
      index.tokens.data_ptr<int64_t>()[t] = batch.tokens[t];
      index.positions.data_ptr<int64_t>()[t] = t - begin;
      index.example.data_ptr<int64_t>()[t] = i;
    }
  }
  for (int64_t g = 0; g < clients; ++g) {
    const int64_t begin = batch.client_offsets[g], end = batch.client_offsets[g + 1];
    index.client_examples.push_back(end - begin);
    index.client_tokens.push_back(batch.token_offsets[end] - batch.token_offsets[begin]);
    std::fill_n(share.data_ptr<double>() + g * index.examples + begin, end - begin,
                1.0 / double(end - begin));
  }

  index.attention = index_attention(batch.token_offsets, heads, options);
  index.share = share.to(options);
  for (auto* tensor : {&index.tokens, &index.positions, &index.example, &index.first, &index.labels})
    *tensor = tensor->to(options.device());
  return index;
}

}  // namespace pf2lora
