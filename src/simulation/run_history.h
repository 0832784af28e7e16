// The starts of the program that a run is made of: its segments, one after another in rounds. The history
// goes into every checkpoint, so it survives what the state survives; results.h5 lists it (segment_*).
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/hdf5_file.h"
#include "io/results.h"

namespace pf2lora {

// What one start of the program added to a run. A start that ended before its first checkpoint added nothing.
struct RunSegment {
  int64_t first_round = 1;
  int64_t last_round = 0;       // the last one that was saved
  std::string end_utc, reason;  // of its end ("done", "signal SIGUSR1"); empty where it was killed or failed
  std::vector<Attribute>
      start;  // texts, lists of texts and integers: program, command line, hosts, ranks, ...
};
using RunHistory = std::vector<RunSegment>;

// As a text (JSON), and back: "" is a run without segments. Throws InputError where the text is none.
std::string history_text(const RunHistory& history);
RunHistory read_history(const std::string& text);

// The text, or number as text, that `segment.start` holds under a name; "" where there is none.
std::string start_fact(const RunSegment& segment, std::string_view name);

// Sentences on what makes the rounds of `now` differ in their last digits from those of an uninterrupted run.
std::vector<std::string> changes_of_bits(const RunSegment& before, const RunSegment& now);

// The variables of results.h5, and their values for `history`, which has as many segments as was said before.
std::vector<Variable> history_variables();
void put_history(Recorder& recorder, const RunHistory& history);

}  // namespace pf2lora
