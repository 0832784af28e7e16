// Whether a checkpoint may be gone on with under the options of this call.
#pragma once
#include <string>

#include "core/options.h"
#include "simulation/run_state.h"

namespace pf2lora {

// The facts that a checkpoint carries: the ini text of its run and the digests of its inputs.
Texts checkpoint_texts(const std::string& config, const Texts& input_digests);

// One of a checkpoint's texts; "" where it has none of that name.
std::string find_text(const Texts& texts, const std::string& name);

// Throws OptionError naming all options that differ and may not (those that say where, how long and how fast
// may), or InputError where data or model are others. `rounds_matter`: the method's rounds depend on how many
// there will be.
void check_resumed(const Texts& saved, const Texts& now, const Options& options, bool rounds_matter);

// Throws OptionError where the checkpoint is beyond --rounds.
void check_rounds_left(int64_t rounds_done, const Options& options);

}  // namespace pf2lora
