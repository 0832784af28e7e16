// Losses of clients: means over their rows.
#pragma once
#include <vector>

#include "native/graph.h"

namespace pf2lora::native {

// What each row counts for in its client's loss: 1 / the client's number of rows. [rows]
template <class T>
std::vector<T> client_mean_weights(const BatchShape& batch, Per per) {
  std::vector<T> weights;
  for (int64_t g = 0; g < batch.clients(); ++g) {
    const int64_t rows = batch.begin(per, g + 1) - batch.begin(per, g);
    weights.insert(weights.end(), size_t(rows), T(1) / T(rows));
  }
  return weights;
}

}  // namespace pf2lora::native
