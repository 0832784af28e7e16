#include "app/command_line.h"

#include <algorithm>
#include <boost/program_options.hpp>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

#include "core/error.h"
#include "core/option_values.h"
#include "core/text.h"

namespace pf2lora {
namespace {

namespace po = boost::program_options;
using Action = Invocation::Action;

// Flags that choose what the program does; of the command line alone, as --config is.
const std::vector<std::pair<std::string, Action>> actions = {{"help", Action::help},
                                                             {"version", Action::version},
                                                             {"list", Action::list},
                                                             {"print-config", Action::print_config}};

bool is_control(const std::string& name) {
  return name == "config" ||
         std::ranges::any_of(actions, [&](const auto& action) { return action.first == name; });
}

// An option as it was given: `place` is "" for the command line, or "FILE, line N: ".
struct Given {
  std::string place, name, text;
};

// Every option name there is, for boost, for suggestions, and for telling whose an option is.
struct Catalogue {
  std::vector<std::string> names;
  std::map<std::string, bool> is_flag;
  std::map<std::string, std::vector<std::string>> owners;  // the methods that have an option of this name

  explicit Catalogue(const std::vector<Method>& methods) {
    Options options;
    for (const OptionEntry& entry : list_options(options)) add(entry.name, entry.is_flag());
    add("config", false);
    for (const auto& [name, action] : actions) add(name, true);
    for (const Method& method : methods) add_method(method);
  }

 private:
  void add(const std::string& name, bool flag) {
    if (!is_flag.emplace(name, flag).second) throw std::logic_error("option " + name + " is declared twice");
    names.push_back(name);
  }

  void add_method(const Method& method) {
    if (!method.make_options) return;
    const auto options = method.make_options();
    for (const OptionEntry& entry : list_options(*options)) {
      if (!owners.contains(entry.name)) {
        add(entry.name, entry.is_flag());
      } else if (is_flag.at(entry.name) != entry.is_flag()) {
        throw std::logic_error("option " + entry.name + " is a flag in one method and not in another");
      }
      owners[entry.name].push_back(method.name);
    }
  }
};

// What PEFT, transformers, Flower and papers call our options and methods, which no likeness of letters
// finds.
const std::map<std::string, std::string> elsewhere = {{"lr", "learning-rate"},
                                                      {"client-lr", "client-learning-rate"},
                                                      {"r", "rank"},
                                                      {"lora-r", "rank"},
                                                      {"lora-rank", "rank"},
                                                      {"target-modules", "targets"},
                                                      {"num-rounds", "rounds"},
                                                      {"num-clients", "clients"},
                                                      {"fraction-fit", "clients-per-round"},
                                                      {"epochs", "local-steps"},
                                                      {"local-epochs", "local-steps"},
                                                      {"bs", "batch-size"},
                                                      {"alpha", "lora-alpha"},
                                                      {"output-dir", "output"},
                                                      {"model-name-or-path", "model"},
                                                      {"dataset", "data"},
                                                      {"dtype", "precision"},
                                                      {"method", "algorithm"},
                                                      {"strategy", "algorithm"},
                                                      {"max-new-tokens", "generate-tokens"},
                                                      {"num-beams", "beams"},
                                                      {"no-repeat-ngram-size", "no-repeat-ngram"},
                                                      {"fedavg", "homlora"},
                                                      {"fedavg-lora", "homlora"},
                                                      {"lora", "homlora"},
                                                      {"fedlora", "homlora"}};

// "; did you mean 'rounds'?", or "" for a name like none of `names`.
std::string suggest(std::string name, const std::vector<std::string>& names) {
  std::ranges::transform(name, name.begin(), [](char c) {
    return c == '_' ? '-' : char(std::tolower(static_cast<unsigned char>(c)));
  });
  const auto found = elsewhere.find(name);
  return did_you_mean(found == elsewhere.end() ? name : found->second, names);
}

[[noreturn]] void refuse_unknown(const std::string& place, const std::string& name,
                                 const Catalogue& catalogue) {
  throw OptionError(place + "option '" + name + "' is not known" + suggest(name, catalogue.names) +
                    " (all of them: --help)");
}

std::string without_dashes(const std::string& token) {
  const std::size_t first = std::min(token.find_first_not_of('-'), token.size());
  return token.substr(first,
                      token.find('=') == std::string::npos ? std::string::npos : token.find('=') - first);
}

[[noreturn]] void refuse_missing_value(const std::string& name) {
  throw OptionError("option " + name + ": no value is given; write --" + name + " VALUE, or --" + name +
                    "=VALUE when it begins with dashes (see --help)");
}

[[noreturn]] void refuse_positional(const std::string& token) {
  const bool dashed = token.starts_with("-") || token.starts_with("\u2013") || token.starts_with("\u2014");
  throw OptionError(
      "the argument '" + token + "' belongs to no option" +
      (dashed ? "; options begin with two plain dashes (see --help)" : "; write --option VALUE"));
}

std::vector<Given> read_arguments(const std::vector<std::string>& tokens, const Catalogue& catalogue) {
  po::options_description known;
  for (const std::string& name : catalogue.names) {
    auto* value = po::value<std::string>();
    if (catalogue.is_flag.at(name)) value->implicit_value("true");
    known.add_options()(name.c_str(), value, "");
  }
  const int style = po::command_line_style::allow_long | po::command_line_style::long_allow_next |
                    po::command_line_style::long_allow_adjacent;
  po::parsed_options parsed(nullptr);
  try {
    parsed = po::command_line_parser(tokens).options(known).style(style).run();
  } catch (const po::unknown_option& error) {
    refuse_unknown("", without_dashes(error.get_option_name()), catalogue);
  } catch (const po::invalid_command_line_syntax& error) {
    refuse_missing_value(without_dashes(error.get_option_name()));
  } catch (const po::error& error) {
    throw OptionError(std::string("the command line cannot be read (") + error.what() + "); see --help");
  }
  std::vector<Given> given;
  for (const auto& option : parsed.options) {
    if (option.string_key.empty()) refuse_positional(option.value.empty() ? "" : option.value.front());
    // Boost takes an unknown option behind a known one for its value.
    const auto& own_tokens = option.original_tokens;
    if (own_tokens.size() > 1 && own_tokens[1].starts_with("--")) {
      if (catalogue.is_flag.at(option.string_key))
        refuse_unknown("", without_dashes(own_tokens[1]), catalogue);
      refuse_missing_value(option.string_key);
    }
    given.push_back({"", option.string_key, option.value.empty() ? "true" : option.value.front()});
  }
  return given;
}

std::vector<Given> read_line(const std::string& line, const std::string& place) {
  if (trim(line).starts_with('[')) {
    throw OptionError(
        place + "'" + std::string(trim(line)) +
        "' begins a section, but options stand without sections; delete it or write it as a comment (#)");
  }
  std::istringstream text(line);
  std::vector<Given> given;
  try {
    for (const auto& option : po::parse_config_file(text, po::options_description(), true).options) {
      given.push_back({place, option.string_key, option.value.empty() ? "" : option.value.front()});
    }
  } catch (const po::error&) {
    throw OptionError(place + "'" + std::string(trim(line)) +
                      "' cannot be read; write option = value, or # and a comment");
  }
  return given;
}

// A line at a time goes to boost, whose grammar knows no longer statements, so that messages can name the
// line.
std::vector<Given> read_file(const std::string& path, const Catalogue& catalogue) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw OptionError("option config: there is no file '" + path + "'; give the path of an ini file");
  }
  std::ifstream file(path);
  if (std::filesystem::is_directory(path, ignored) || !file) {
    throw OptionError("option config: '" + path +
                      "' is not a file that can be read; give the path of an ini file");
  }
  std::vector<Given> given;
  std::map<std::string, int> first_lines;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (number == 1 && line.starts_with("\xef\xbb\xbf"))
      line.erase(0, 3);  // the byte order mark of some editors
    const std::string place = path + ", line " + std::to_string(number) + ": ";
    for (Given& entry : read_line(line, place)) {
      if (is_control(entry.name)) {
        throw OptionError(place + "option " + entry.name +
                          " belongs on the command line; delete it from the file");
      }
      if (!catalogue.is_flag.contains(entry.name)) refuse_unknown(place, entry.name, catalogue);
      const auto [first, is_new] = first_lines.emplace(entry.name, number);
      if (!is_new) {
        throw OptionError(place + "option " + entry.name + " was already given in line " +
                          std::to_string(first->second) + "; keep one of them");
      }
      given.push_back(std::move(entry));
    }
  }
  if (file.bad()) throw OptionError("option config: reading '" + path + "' failed; check the file");
  return given;
}

const Method& find_method(const Given& given, const std::vector<Method>& methods) {
  const auto found = std::ranges::find(methods, given.text, &Method::name);
  if (found != methods.end()) return *found;
  std::vector<std::string> names;
  for (const Method& method : methods) names.push_back(method.name);
  throw OptionError(given.place + "option algorithm: '" + given.text + "' is not known; give one of " +
                    join(names, ", ") + suggest(given.text, names));
}

[[noreturn]] void refuse_foreign(const Given& given, const std::string& algorithm,
                                 const Catalogue& catalogue) {
  const auto& owners = catalogue.owners.at(given.name);
  throw OptionError(given.place + "option " + given.name + " belongs to the method" +
                    (owners.size() > 1 ? "s " : " ") + join(owners, ", ") + ", but algorithm is " +
                    algorithm + "; leave it out, or choose algorithm = " + owners.front());
}

void assign_given(const OptionEntry& entry, const Given& given) {
  try {
    assign_value(entry, given.text);
  } catch (const OptionError& error) {
    throw OptionError(given.place + error.what());
  }
}

void assign(const std::vector<Given>& given, Invocation& invocation, const Catalogue& catalogue) {
  std::map<std::string, OptionEntry> entries;
  for (const OptionEntry& entry : list_options(invocation.options, invocation.method_options.get()))
    entries.emplace(entry.name, entry);
  for (const Given& one : given) {
    if (is_control(one.name)) continue;
    const auto entry = entries.find(one.name);
    if (entry == entries.end()) refuse_foreign(one, invocation.options.algorithm, catalogue);
    assign_given(entry->second, one);
  }
}

bool is_wanted(const std::string& name, const std::vector<Given>& given) {
  bool wanted = false;
  const OptionEntry flag{"", name, "", anything(), &wanted};
  for (const Given& one : given) {
    if (one.name == name) assign_given(flag, one);
  }
  return wanted;
}

// The first action that a flag of `given` asks for, in the order of `actions`.
Action choose_action(const std::vector<Given>& given) {
  for (const auto& [name, action] : actions) {
    if (is_wanted(name, given)) return action;
  }
  return Action::run;
}

// The options of the run that --resume goes on with: what its options.ini says, but for where it lies, and
// for another method's own options. Empty without --resume, and where no such file stands.
std::vector<Given> resumed_options(const std::vector<Given>& given, const std::vector<Method>& methods,
                                   const Catalogue& catalogue) {
  if (!is_wanted("resume", given)) return {};
  std::string output = Options().output;
  const Method* method = nullptr;
  for (const Given& one : given) {
    if (one.name == "output") output = one.text;
    if (one.name == "algorithm") method = &find_method(one, methods);
  }
  const std::string path = output + "/options.ini";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  std::vector<Given> before = read_file(path, catalogue);
  std::erase_if(before, [&](const Given& one) {
    if (one.name == "output") return true;
    const auto owners = catalogue.owners.find(one.name);
    return method != nullptr && owners != catalogue.owners.end() &&
           std::ranges::find(owners->second, method->name) == owners->second.end();
  });
  return before;
}

std::string quote(const std::string& token) {
  const bool plain = !token.empty() && std::ranges::all_of(token, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("-_=./,:+@%").find(c) != std::string_view::npos;
  });
  if (plain) return token;
  std::string quoted = "'";
  for (const char c : token) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace

Invocation parse_command_line(std::span<const char* const> arguments, const std::vector<Method>& methods) {
  const std::vector<std::string> tokens(arguments.begin(), arguments.end());
  Invocation invocation;
  invocation.command_line = "pf2lora";
  for (const std::string& token : tokens) invocation.command_line += ' ' + quote(token);
  if (std::ranges::any_of(tokens, [](const auto& token) { return token == "--help" || token == "-h"; })) {
    invocation.action = Action::help;
    return invocation;
  }

  const Catalogue catalogue(methods);
  const std::vector<Given> arguments_given = read_arguments(tokens, catalogue);
  invocation.action = choose_action(arguments_given);
  if (invocation.action != Action::run && invocation.action != Action::print_config) return invocation;

  std::vector<Given> given;
  for (const Given& one : arguments_given) {
    if (one.name == "config") std::ranges::move(read_file(one.text, catalogue), std::back_inserter(given));
  }
  std::ranges::copy(arguments_given, std::back_inserter(given));
  std::ranges::move(resumed_options(given, methods, catalogue), std::inserter(given, given.begin()));

  const Method* method = &find_method({"", "algorithm", invocation.options.algorithm}, methods);
  for (const Given& one : given) {
    if (one.name == "algorithm") method = &find_method(one, methods);
  }
  invocation.options.algorithm = method->name;
  if (method->make_options) invocation.method_options = method->make_options();
  assign(given, invocation, catalogue);
  check(invocation.options);
  for (const Given& one : arguments_given) invocation.typed.push_back(one.name);
  return invocation;
}

}  // namespace pf2lora
