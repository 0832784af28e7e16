// The command line and the ini files of a run, and the pages that --help, --list and --print-config print.
#pragma once
#include <functional>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/options.h"

namespace pf2lora {

// A value of --algorithm; `make_options` is null for a method that has no options of its own.
struct Method {
  std::string name, description;
  std::function<std::unique_ptr<OptionSet>()> make_options;
};

struct Invocation {
  enum class Action { run, help, version, list, print_config };

  Options options;
  std::unique_ptr<OptionSet> method_options;  // those of options.algorithm; null when it has none
  Action action = Action::run;
  std::string command_line;        // as a shell would take it
  std::vector<std::string> typed;  // options of the command line
};

// Reads `arguments` (without the program's name) and the ini files that they name; later ones win, and the
// command line wins over files. With --resume, options.ini in the output directory comes before all of them.
// Checks every value, overridden ones too, and the options together. Throws OptionError. After --help,
// --version or --list nothing else is checked.
Invocation parse_command_line(std::span<const char* const> arguments, const std::vector<Method>& methods);

// The page of --help: usage, options by group, the methods' own options, exit codes; at most 100 columns.
void print_help(std::ostream& out, const std::vector<Method>& methods);

// A titled table of names, for --list.
struct ListSection {
  std::string title;
  struct Row {
    std::string name, description;
  };
  std::vector<Row> rows;
};
void print_list(std::ostream& out, const std::vector<ListSection>& sections);

// An ini file that reproduces the run: every option with its exact value. The flags that say what to do with
// the output directory or this one call (resume, overwrite, dry-run) stand there only when they were given.
void print_config(std::ostream& out, const Invocation& invocation);

// The same without those flags, for the record of the run: what --resume reads, and other runs may.
std::string recorded_config(const Invocation& invocation);

}  // namespace pf2lora
