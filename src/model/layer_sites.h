// Which linear layers of each transformer layer are adapted sites.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "adapters/site.h"

namespace pf2lora {

// Indices into the sites of a model, -1 where a linear layer is none.
struct LayerSites {
  int query = -1, key = -1, value = -1, attention_output = -1, gate = -1, intermediate = -1, output = -1;
};

// One for each of `layers` layers.
inline std::vector<LayerSites> sites_by_layer(const std::vector<Site>& sites, int64_t layers) {
  std::vector<LayerSites> by_layer(static_cast<size_t>(layers));
  for (size_t i = 0; i < sites.size(); ++i) {
    LayerSites& layer = by_layer[size_t(sites[i].layer)];
    const std::string& target = sites[i].target;
    (target == "query"              ? layer.query
     : target == "key"              ? layer.key
     : target == "value"            ? layer.value
     : target == "attention-output" ? layer.attention_output
     : target == "gate"             ? layer.gate
     : target == "intermediate"     ? layer.intermediate
                                    : layer.output) = int(i);
  }
  return by_layer;
}

// The lowest layer with a site; the last layer where there is none.
inline int64_t lowest_layer(const std::vector<Site>& sites, int64_t layers) {
  int64_t lowest = layers - 1;
  for (const Site& site : sites) lowest = site.layer < lowest ? site.layer : lowest;
  return lowest;
}

}  // namespace pf2lora
