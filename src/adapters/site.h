// Where adapters may sit.
#pragma once
#include <cstdint>
#include <string>

namespace pf2lora {

// One frozen matrix of the model.
struct Site {
  std::string name;    // the module's name in transformers, such as encoder.layer.0.attention.self.query
  std::string target;  // the name of --targets: query, key, value, attention-output, intermediate, output
  int64_t layer = 0;
  int64_t rows = 0;     // outputs
  int64_t columns = 0;  // inputs
};

// The classification head that the adapters carry: logits = weight h + bias.
struct HeadShape {
  int64_t classes = 0;
  int64_t inputs = 0;
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
