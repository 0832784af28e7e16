// config.json of a transformers model directory: what every family says in words of its own, in one
// vocabulary, so that nothing behind this file knows names of architectures.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace pf2lora {

struct Family;

enum class NormKind { layer, rms };      // layer norm, or by the root mean square, without mean and shift
enum class NormPlace { after, before };  // norm(x + f(x)), or x + f(norm(x)) with a last norm at the end
enum class PositionKind { learned, rotary, relative };

// Disentangled attention (DeBERTa, He et al. 2021, arXiv 2006.03654; buckets: arXiv 2111.09543).
struct RelativePositions {
  int64_t buckets = 0;   // of each sign, on a logarithmic scale beyond half of them; 0: a row each distance
  int64_t farthest = 0;  // distances from here on share a row
  bool content_to_position = false, position_to_content = false;
  bool normalised = false;  // the embeddings of distances go through a layer norm
  int64_t span() const { return buckets > 0 ? buckets : farthest; }  // rows of each sign
};

struct ModelConfig {
  const Family* family = nullptr;
  std::string activation;  // gelu, gelu_new, gelu_pytorch_tanh, relu or silu
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0;
  int64_t key_heads = 0;   // of keys and values; heads / key_heads queries read each
  int64_t head_width = 0;  // of a query, key or value
  int64_t intermediate = 0;
  int64_t vocabulary = 0;
  int64_t positions = 0;       // most tokens of an example
  int64_t first_position = 0;  // the row of the learned positions that the first token reads
  int64_t token_types = 0;     // 0: no embedding of them
  double norm_epsilon = 1e-12;
  NormKind norm = NormKind::layer;
  NormPlace norm_place = NormPlace::after;
  PositionKind position_kind = PositionKind::learned;
  std::vector<double> rotary_frequencies;  // [head_width / 2], radians a position
  RelativePositions relative;
  bool causal = false;  // tokens attend to themselves and those before them
  bool gated = false;   // activation(x gate^T) * (x intermediate^T) in place of activation(x intermediate^T)
  // Which frozen matrices have a bias.
  bool projection_bias = true, attention_output_bias = true, intermediate_bias = true;
  bool tied = true;              // next tokens are scored by the word embeddings
  std::string dense_activation;  // of the dense layer in the family's classification head; empty: it has none

  int64_t query_width() const { return heads * head_width; }
  int64_t key_width() const { return key_heads * head_width; }
};

// Reads <directory>/config.json. Throws InputError for a missing or damaged file, an architecture or
// activation that is not supported (with the list of those that are), or shapes that cannot be.
ModelConfig read_model_config(const std::string& directory);

}  // namespace pf2lora
