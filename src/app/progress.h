// The display of a run that goes on: a bar that stays in its line in a terminal, sparse lines in a log.
#pragma once
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <string>

#include "simulation/report.h"

namespace pf2lora {

struct ProgressStyle {
  enum class Form { bar, lines, off };
  Form form = Form::off;
  int64_t columns = 80;  // of the terminal, for the bar
};

// The form for --progress `mode` (auto, bar, lines, off) and a display that writes to `descriptor`. For
// `auto`, a process that Open MPI's launcher started asks where the launcher itself writes, since a rank's
// own standard output is a pseudo terminal in any case; a launcher that cannot be asked means lines.
ProgressStyle choose_progress(const std::string& mode, int descriptor);

// The display; `clock` gives seconds from any fixed moment, the steady clock by default. Of lines, it prints
// the first, the last and evaluated rounds, these at most one a second, and others at most one in ten
// seconds.
std::unique_ptr<Observer> make_progress(const ProgressStyle& style, std::ostream& out,
                                        std::function<double()> clock = nullptr);

}  // namespace pf2lora
