// Where an adapter may sit: one frozen matrix of the model.
#pragma once
#include <cstdint>
#include <string>

namespace pf2lora {

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

}  // namespace pf2lora
