// An AdapterSet as the native operations read and write it: views of its tensors, which must be contiguous.
#pragma once
#include <torch/types.h>

#include "adapters/adapter_set.h"
#include "native/parameters.h"

namespace pf2lora {

// The same values in contiguous tensors.
AdapterSet contiguous(const AdapterSet& adapters);
// Tensors of the same shapes, for gradients; the constants are the same.
AdapterSet empty_like(const AdapterSet& adapters);

template <class T>
native::AdapterView<T> view_of(const AdapterSet& adapters);
template <class T>
native::AdapterTarget<T> target_of(AdapterSet& rows);

}  // namespace pf2lora
