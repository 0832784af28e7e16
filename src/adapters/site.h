// Where adapters may sit.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace pf2lora {

// One frozen matrix of the model.
struct Site {
  std::string name;    // the module's name in transformers, such as encoder.layer.0.attention.self.query
  std::string target;  // the name of --targets: query, key, value, attention-output, gate, intermediate,
                       // output
  int64_t layer = 0;
  int64_t rows = 0;     // outputs
  int64_t columns = 0;  // inputs
};

// The highest rank that a matrix of those sites can have.
inline int64_t full_rank(const std::vector<Site>& sites) {
  int64_t rank = 0;
  for (const Site& site : sites) rank = std::max(rank, std::min(site.rows, site.columns));
  return rank;
}

// The head that the adapters carry: scores = weight h + bias, or with a dense layer before it scores = weight
// activation(dense weight h + dense bias) + bias.
struct HeadShape {
  int64_t classes = 0;
  int64_t inputs = 0;
  int64_t dense = 0;  // width of the dense layer; 0: there is none
};

// Where prompts may stand in a model: before its tokens, or before every layer's keys and values.
struct PromptRoom {
  int64_t layers = 0;
  int64_t width = 0;
};

// The prompts that adapters carry.
struct PromptShape {
  int64_t vectors = 0;  // 0: none
  int64_t width = 0;
  int64_t layers = 0;  // 0: one prompt before the tokens; otherwise a prefix of each of the lowest `layers`
};

}  // namespace pf2lora
