// --help, --list and --print-config: what the option declarations say, for people.
#include <algorithm>
#include <cmath>
#include <memory>
#include <ostream>
#include <sstream>

#include "app/command_line.h"
#include "core/option_values.h"
#include "core/text.h"

namespace pf2lora {
namespace {

constexpr std::size_t page_width = 100;
constexpr std::size_t term_width = 36;   // of the left column, its indent included
constexpr char unbroken_blank = '\x01';  // stands for a blank at which a line is not broken

// "  term        text text text" with the text wrapped in its column; a long term has a line of its own.
void print_term(std::ostream& out, const std::string& term, const std::string& text,
                std::size_t width = term_width) {
  std::string line = "  " + term;
  if (line.size() + 2 > width) {
    out << line << '\n';
    line.clear();
  }
  for (std::string piece : wrap(text, page_width - width)) {
    std::ranges::replace(piece, unbroken_blank, ' ');
    out << line << std::string(width - line.size(), ' ') << piece << '\n';
    line.clear();
  }
}

void print_paragraph(std::ostream& out, const std::string& text) {
  for (const std::string& line : wrap(text, page_width)) out << line << '\n';
}

std::string capitalised(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return text;
}

// What may be given, in brief: "(at least 1)", "(adamw | sgd)", or nothing where all is allowed.
std::string brief_constraint(const OptionEntry& entry) {
  const Constraint& c = entry.constraint;
  if (!c.choices.empty())
    return " (" + join(c.choices, std::holds_alternative<std::string*>(entry.field) ? " | " : ", ") + ")";
  const bool low = std::isfinite(c.low), high = std::isfinite(c.high);
  if (low && high && !c.above)
    return " (" + format_significant(c.low, 10) + " to " + format_significant(c.high, 10) + ")";
  std::string text;
  if (low) text += (c.above ? "above " : "at least ") + format_significant(c.low, 10);
  if (high) text += (low ? ", at most " : "at most ") + format_significant(c.high, 10);
  return text.empty() ? "" : " (" + text + ")";
}

// The help with what may be given behind it; a short constraint is not broken over two lines.
std::string describe(const OptionEntry& entry) {
  std::string constraint = brief_constraint(entry);
  if (constraint.empty()) return entry.help;
  constraint.erase(0, 1);
  if (constraint.size() <= 36) std::ranges::replace(constraint, ' ', unbroken_blank);
  return entry.help + ' ' + constraint;
}

void print_option(std::ostream& out, const OptionEntry& entry) {
  std::string term = "--" + entry.name;
  const std::string value = format_value(entry);
  if (!entry.is_flag() || value == "true") term += " [" + (value.empty() ? "empty" : value) + "]";
  print_term(out, term, describe(entry));
}

void print_options(std::ostream& out, OptionSet& options) {
  std::string group;
  for (const OptionEntry& entry : list_options(options)) {
    if (entry.group != group) out << '\n' << capitalised(entry.group) << '\n';
    group = entry.group;
    print_option(out, entry);
  }
}

// The options of methods, each once, under the methods that have it.
void print_method_options(std::ostream& out, const std::vector<Method>& methods) {
  struct Shared {
    OptionEntry entry;
    std::string methods;  // comma-separated
  };
  std::vector<Shared> options;
  std::vector<std::unique_ptr<OptionSet>> alive;  // entries point into them
  for (const Method& method : methods) {
    if (!method.make_options) continue;
    alive.push_back(method.make_options());
    for (const OptionEntry& entry : list_options(*alive.back())) {
      const auto same = std::ranges::find_if(options, [&](const Shared& other) {
        return other.entry.name == entry.name && describe(other.entry) == describe(entry) &&
               format_value(other.entry) == format_value(entry);
      });
      if (same == options.end())
        options.push_back({entry, method.name});
      else
        same->methods += ", " + method.name;
    }
  }
  std::vector<std::string> headings;
  for (const Shared& option : options)
    if (std::ranges::find(headings, option.methods) == headings.end()) headings.push_back(option.methods);
  for (const std::string& heading : headings) {
    out << "\nOnly with --algorithm " << heading << '\n';
    for (const Shared& option : options)
      if (option.methods == heading) print_option(out, option.entry);
  }
}

// Options that say what to do with this call or with what lies in the output directory, not what the run is.
bool is_run_control(const std::string& name) {
  return name == "resume" || name == "overwrite" || name == "dry-run";
}

void print_values(std::ostream& out, OptionSet& options, const std::string& title_of_all) {
  std::string group;
  if (!title_of_all.empty()) out << "\n# " << title_of_all << '\n';
  for (const OptionEntry& entry : list_options(options)) {
    if (title_of_all.empty() && entry.group != group) out << "\n# " << entry.group << '\n';
    group = entry.group;
    const std::string value = format_value(entry);
    if (is_run_control(entry.name) && value == "false") continue;
    out << entry.name << " =" << (value.empty() ? "" : " ") << value << '\n';
  }
}

void print_ini(std::ostream& out, Options options, OptionSet* method_options) {
  out << "# Every option of this run; use as: pf2lora --config FILE\n";
  print_values(out, options, "");
  if (method_options) print_values(out, *method_options, "of the method " + options.algorithm);
}

}  // namespace

void print_help(std::ostream& out, const std::vector<Method>& methods) {
  out << "pf2lora: personalised federated fine-tuning with low-rank adapters, simulated over MPI\n\n"
         "Usage:\n"
         "  pf2lora [--config FILE]... [--option VALUE]...\n"
         "  mpirun -n RANKS pf2lora [--config FILE]... [--option VALUE]...\n\n";
  print_paragraph(out,
                  "Options are written --option VALUE or --option=VALUE, in files option = VALUE with # "
                  "before comments. Later "
                  "ones win, and the command line wins over files. Flags need no VALUE; --flag=false takes "
                  "one back. Lists are "
                  "written a,b,c. Defaults stand in [brackets].");
  out << "\nWhat to do\n";
  print_term(out, "--config FILE", "read options from an ini file; may be given several times");
  print_term(out, "--help", "print this page");
  print_term(out, "--list", "print the methods, partitions and problems that can be chosen");
  print_term(out, "--print-config",
             "check the options and print them all as an ini file that reproduces the run");
  print_term(out, "--version", "print the version of the program and of its libraries");

  Options options;
  print_options(out, options);
  print_method_options(out, methods);

  out << "\nExit codes\n";
  const std::vector<std::pair<std::string, std::string>> codes = {
      {"0", "done"},
      {"1", "internal error"},
      {"2", "bad option or configuration"},
      {"3", "bad input file: model, data or checkpoint"},
      {"4", "numerical failure: a loss or parameter is no longer finite"},
      {"85", "stopped early with everything saved: run again with --resume"}};
  for (const auto& [code, meaning] : codes) print_term(out, code, meaning, 8);
}

void print_list(std::ostream& out, const std::vector<ListSection>& sections) {
  std::size_t width = 0;
  for (const ListSection& section : sections) {
    for (const auto& row : section.rows) width = std::max(width, row.name.size() + 4);
  }
  for (std::size_t i = 0; i < sections.size(); ++i) {
    out << (i == 0 ? "" : "\n") << capitalised(sections[i].title) << '\n';
    for (const auto& row : sections[i].rows)
      print_term(out, row.name, row.description, std::min(width, term_width));
  }
}

void print_config(std::ostream& out, const Invocation& invocation) {
  print_ini(out, invocation.options, invocation.method_options.get());
}

std::string recorded_config(const Invocation& invocation) {
  Options options = invocation.options;
  options.resume = options.overwrite = options.dry_run = false;
  options.profile.clear();  // repeated, the run would write over its trace
  std::ostringstream text;
  print_ini(text, options, invocation.method_options.get());
  return text.str();
}

}  // namespace pf2lora
