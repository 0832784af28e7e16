// How the states of an example's tokens become the one that the head reads.
#pragma once

namespace pf2lora {

// The first token's raw state; that after the pooler, tanh(W h + b); the mean over tokens.
enum class Pooling { cls, pooler, mean };

}  // namespace pf2lora
