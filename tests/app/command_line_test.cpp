#include "app/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include "core/error.h"
#include "core/option_values.h"
#include "core/text.h"
#include "data/partition.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using Action = Invocation::Action;

struct FirstOptions : OptionSet {
  std::string mode = "exact";
  double norm = 1e-3;
  bool careful = false;
  void visit(OptionVisitor& visitor) override {
    visitor.group("first");
    visitor.option("mode", mode, "how the second derivative is computed", one_of({"exact", "difference"}));
    visitor.option("difference-norm", norm, "norm of the step", positive());
    visitor.option("careful", careful, "check twice");
  }
};

struct ThirdOptions : OptionSet {
  int64_t stages = 2;
  double norm = 0.5;
  void visit(OptionVisitor& visitor) override {
    visitor.group("third");
    visitor.option("stages", stages, "stages of training", at_least(1));
    visitor.option("difference-norm", norm, "norm of the step", positive());
  }
};

const std::vector<Method>& methods() {
  static const std::vector<Method> all = {
      {"pf2lora", "the first method", [] { return std::make_unique<FirstOptions>(); }},
      {"homlora", "one without options", nullptr},
      {"staged", "a third method", [] { return std::make_unique<ThirdOptions>(); }}};
  return all;
}

Invocation parse(const std::vector<std::string>& words) {
  std::vector<const char*> arguments;
  for (const std::string& word : words) arguments.push_back(word.c_str());
  return parse_command_line(arguments, methods());
}

// The message of the one OptionError, with exit code 2, that these words must raise.
std::string refusal(const std::vector<std::string>& words) {
  try {
    parse(words);
  } catch (const OptionError& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_option);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << join(words, " ");
  return "";
}

std::string printed(const Invocation& invocation) {
  std::ostringstream text;
  print_config(text, invocation);
  return text.str();
}

class CommandLine : public testing::Test {
 protected:
  CommandLine() { std::filesystem::create_directories(folder_); }
  ~CommandLine() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }

 private:
  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("pf2lora_command_line_test_" + std::to_string(getpid()));
};

TEST_F(CommandLine, WithoutArgumentsIsTheDefaultRun) {
  Invocation invocation = parse({});
  Options defaults;
  EXPECT_EQ(invocation.action, Action::run);
  EXPECT_EQ(list_values(invocation.options), list_values(defaults));
  ASSERT_NE(invocation.method_options, nullptr);
  EXPECT_EQ(invocation.command_line, "pf2lora");
}

TEST_F(CommandLine, TakesValuesBehindABlankOrAnEqualsSign) {
  const Options options =
      parse({"--rank", "4", "--learning-rate=0.5", "--overwrite", "--targets", "key"}).options;
  EXPECT_EQ(options.rank, 4);
  EXPECT_EQ(options.learning_rate, 0.5);
  EXPECT_TRUE(options.overwrite);
  EXPECT_THAT(options.targets, ElementsAre("key"));
  EXPECT_FALSE(parse({"--overwrite", "--overwrite=false"}).options.overwrite);
}

TEST_F(CommandLine, LaterWinsAndTheCommandLineWinsOverFiles) {
  const std::string one =
      file("one.ini", "rank = 3\nrounds = 3\nseed = 3 # a comment\n\n# another\noverwrite = yes\n");
  const std::string two = file("two.ini", "\xef\xbb\xbfrounds=5\r\nseed =5\r\n");
  const Options options = parse({"--seed", "7", "--config", one, "--config", two, "--seed", "9"}).options;
  EXPECT_EQ(options.rank, 3);
  EXPECT_EQ(options.rounds, 5);
  EXPECT_EQ(options.seed, 9);
  EXPECT_TRUE(options.overwrite);
  EXPECT_EQ(parse({"--config", two, "--config", one}).options.rounds, 3);
}

TEST_F(CommandLine, RecordsItselfAsAShellWouldTakeIt) {
  const Invocation invocation = parse({"--output", "my run", "--matrix-client-values", ";2", "--model=it's"});
  EXPECT_EQ(invocation.command_line,
            "pf2lora --output 'my run' --matrix-client-values ';2' '--model=it'\\''s'");
}

TEST_F(CommandLine, RefusesWhatIsNoOption) {
  EXPECT_THAT(refusal({"--rnds", "3"}), AllOf(HasSubstr("'rnds'"), HasSubstr("'rounds'")));
  EXPECT_THAT(refusal({"--rnds=3"}), AllOf(HasSubstr("option 'rnds'"), HasSubstr("'rounds'")));
  EXPECT_THAT(refusal({"--stags", "3"}), HasSubstr("'stages'"));  // an option of a method that is not chosen
  EXPECT_THAT(refusal({"--lear", "3"}), HasSubstr("'lear' is not known"));  // no guessing of beginnings
  EXPECT_THAT(refusal({"--overwrite", "--foo"}), HasSubstr("'foo' is not known"));
  EXPECT_THAT(refusal({"wordnet.ini"}), HasSubstr("'wordnet.ini' belongs to no option"));
  EXPECT_THAT(refusal({"-r", "3"}), HasSubstr("'-r'"));
  EXPECT_THAT(refusal({"--rank", "3", "4"}), HasSubstr("'4' belongs to no option"));
}

TEST_F(CommandLine, RefusesAnOptionWithoutItsValue) {
  EXPECT_THAT(refusal({"--rank"}), HasSubstr("option rank: no value"));
  EXPECT_THAT(refusal({"--rank="}), HasSubstr("option rank: no value"));
  EXPECT_THAT(refusal({"--output", "--rank", "3"}), HasSubstr("option output: no value"));
  EXPECT_THAT(refusal({"--output", "--foo"}), HasSubstr("option output: no value"));
  EXPECT_EQ(parse({"--output=--foo"}).options.output, "--foo");
  EXPECT_EQ(parse({"--matrix-client-values", ""}).options.matrix_client_values, "");
}

TEST_F(CommandLine, ANegativeNumberIsAValue) {
  EXPECT_EQ(refusal({"--weight-decay", "-0.5"}),
            "option weight-decay: '-0.5' is out of bounds; give a number of at least 0");
}

TEST_F(CommandLine, AFileFailsWithTheSameWordsAndItsName) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"rank", "10x"},     {"rank", "0"},          {"learning-rate", "nan"},  {"learning-rate", "1e999"},
      {"resume", "maybe"}, {"pooling", "max"},     {"targets", "query,,key"}, {"algorithm", "homlra"},
      {"stages", "3"},     {"local-steps", "1e3"}, {"mode", "exakt"},         {"clients", "524289"}};
  for (const auto& [name, value] : bad) {
    const std::string path = file("bad.ini", "\n" + name + " = " + value + "\n");
    EXPECT_EQ(refusal({"--config", path}), path + ", line 2: " + refusal({"--" + name + "=" + value}));
  }
}

TEST_F(CommandLine, AnOverriddenValueIsCheckedToo) {
  const std::string path = file("bad.ini", "rank = many\n");
  EXPECT_THAT(refusal({"--config", path, "--rank", "3"}), StartsWith(path + ", line 1: option rank: 'many'"));
}

TEST_F(CommandLine, RefusesFilesThatCannotBeUsed) {
  EXPECT_THAT(refusal({"--config", "/nowhere/x.ini"}), HasSubstr("no file '/nowhere/x.ini'"));
  EXPECT_THAT(refusal({"--config", "/tmp"}), HasSubstr("'/tmp' is not a file"));
  EXPECT_THAT(refusal({"--config", file("a.ini", "rnk = 3\n")}),
              AllOf(HasSubstr("a.ini, line 1"), HasSubstr("'rank'")));
  EXPECT_THAT(refusal({"--config", file("a.ini", "seed=1\nrank=1\nseed=1\n")}),
              AllOf(HasSubstr("a.ini, line 3: option seed"), HasSubstr("line 1")));
  EXPECT_THAT(refusal({"--config", file("a.ini", "[run]\nseed = 1\n")}),
              HasSubstr("'[run]' begins a section"));
  EXPECT_THAT(refusal({"--config", file("a.ini", "overwrite\n")}),
              HasSubstr("a.ini, line 1: 'overwrite' cannot be read"));
  EXPECT_THAT(refusal({"--config", file("a.ini", "config = b.ini\n")}),
              HasSubstr("belongs on the command line"));
  EXPECT_THAT(refusal({"--config", file("a.ini", "help = true\n")}),
              HasSubstr("belongs on the command line"));
}

TEST_F(CommandLine, AMethodBringsItsOwnOptions) {
  const Invocation first = parse({"--mode", "difference", "--difference-norm", "0.25"});
  EXPECT_EQ(dynamic_cast<FirstOptions&>(*first.method_options).mode, "difference");
  EXPECT_EQ(dynamic_cast<FirstOptions&>(*first.method_options).norm, 0.25);
  const Invocation third = parse({"--difference-norm", "0.75", "--algorithm", "staged"});
  EXPECT_EQ(dynamic_cast<ThirdOptions&>(*third.method_options).norm, 0.75);
  EXPECT_EQ(parse({"--algorithm", "homlora"}).method_options, nullptr);
}

TEST_F(CommandLine, AnOptionOfAnotherMethodIsAnError) {
  EXPECT_EQ(refusal({"--mode", "exact", "--algorithm", "homlora"}),
            "option mode belongs to the method pf2lora, but algorithm is homlora; leave it out, or choose "
            "algorithm = "
            "pf2lora");
  EXPECT_THAT(refusal({"--difference-norm", "1", "--algorithm", "homlora"}),
              HasSubstr("methods pf2lora, staged"));
}

TEST_F(CommandLine, NamesTheAlgorithmsAndSuggestsTheNearest) {
  EXPECT_EQ(refusal({"--algorithm", "homlra"}),
            "option algorithm: 'homlra' is not known; give one of pf2lora, homlora, staged; did you mean "
            "'homlora'?");
}

TEST_F(CommandLine, ResumeReadsTheOptionsOfTheRunFirst) {
  const std::string run = std::filesystem::path(file("options.ini", "")).parent_path().string();
  file("options.ini", "output = elsewhere\nrounds = 30\nrank = 3\nseed = 3\nmode = difference\n");
  const std::string more = file("more.ini", "seed = 5\nrank = 5\n");
  const Invocation resumed = parse({"--output", run, "--resume", "--config", more, "--rank", "7"});
  EXPECT_EQ(resumed.options.rounds, 30);
  EXPECT_EQ(resumed.options.seed, 5);
  EXPECT_EQ(resumed.options.rank, 7);
  EXPECT_EQ(resumed.options.output, run);
  EXPECT_EQ(dynamic_cast<FirstOptions&>(*resumed.method_options).mode, "difference");
  EXPECT_EQ(parse({"--output", run, "--resume", "--resume=false"}).options.rounds, Options().rounds);
  EXPECT_EQ(parse({"--config", file("flag.ini", "resume = on\noutput = " + run + "\n")}).options.rounds, 30);
}

TEST_F(CommandLine, ResumeWithAnotherMethodLeavesTheFirstOnesOptions) {
  const std::string run = std::filesystem::path(file("options.ini", "")).parent_path().string();
  file("options.ini", "algorithm = pf2lora\nmode = difference\ndifference-norm = 0.25\nrank = 3\n");
  EXPECT_EQ(parse({"--output", run, "--resume", "--algorithm", "homlora"}).options.rank, 3);
  const Invocation third = parse({"--output", run, "--resume", "--algorithm", "staged"});
  EXPECT_EQ(dynamic_cast<ThirdOptions&>(*third.method_options).norm, 0.25);
  EXPECT_THAT(refusal({"--output", run, "--resume", "--stages", "3"}),
              HasSubstr("belongs to the method staged"));
}

TEST_F(CommandLine, ResumeWithoutARecordedRunIsLeftToOthers) {
  EXPECT_TRUE(parse({"--output", "/nowhere", "--resume"}).options.resume);
  EXPECT_THAT(refusal({"--output", "/nowhere", "--resume=perhaps"}), HasSubstr("option resume: 'perhaps'"));
}

TEST_F(CommandLine, TheRecordedConfigurationHoldsNoFlagOfThisCall) {
  EXPECT_EQ(recorded_config(parse({"--overwrite", "--dry-run", "--rank", "3"})),
            printed(parse({"--rank", "3"})));
}

TEST_F(CommandLine, TellsTypedOptionsFromThoseOfFiles) {
  const std::string path = file("shared.ini", "label-sort = 0.5\nmatrix-rows = 3\n");
  EXPECT_THAT(parse({"--config", path, "--dirichlet-alpha", "0.3", "--clients=4"}).typed,
              ElementsAre("config", "dirichlet-alpha", "clients"));
}

TEST_F(CommandLine, KnowsWhatOthersCallOptionsAndMethods) {
  EXPECT_THAT(refusal({"--lr", "1"}), HasSubstr("did you mean 'learning-rate'?"));
  EXPECT_THAT(refusal({"--num_beams", "4"}), HasSubstr("did you mean 'beams'?"));
  EXPECT_THAT(refusal({"--config", file("flower.ini", "fraction-fit = 0.1\n")}),
              HasSubstr("line 1: option 'fraction-fit' is not known; did you mean 'clients-per-round'?"));
  EXPECT_THAT(refusal({"--algorithm", "FedAvg"}), HasSubstr("did you mean 'homlora'?"));
}

TEST_F(CommandLine, OptionsNeedOthersThatCanBeGiven) {
  Options options;
  const std::vector<OptionEntry> entries = list_options(options);
  std::map<std::string, std::vector<std::string>> names = {{"algorithm", {"pf2lora", "prompt", "prefix"}}};
  for (const PartitionName& row : partition_names()) names["partition"].emplace_back(row.name);
  for (const OptionEntry& entry : entries) {
    for (const Condition& c : entry.constraint.conditions) {
      if (c.option == "task") continue;  // of the dataset
      const auto other = std::ranges::find(entries, c.option, &OptionEntry::name);
      ASSERT_NE(other, entries.end()) << entry.name;
      for (const std::string& value : c.values) EXPECT_NO_THROW(assign_value(*other, value)) << entry.name;
      if (names.contains(c.option)) {
        EXPECT_THAT(names[c.option], testing::IsSupersetOf(c.values)) << entry.name;
      }
    }
  }
}

TEST_F(CommandLine, ChecksOptionsTogether) {
  EXPECT_THAT(refusal({"--resume", "--overwrite"}), HasSubstr("exclude each other"));
  EXPECT_THAT(refusal({"--clients", "4", "--clients-per-round", "5"}), HasSubstr("clients-per-round"));
}

TEST_F(CommandLine, KnowsItsActions) {
  EXPECT_EQ(parse({"--rank", "no number", "--help", "--nonsense"}).action, Action::help);
  EXPECT_EQ(parse({"-h"}).action, Action::help);
  EXPECT_EQ(parse({"--version"}).action, Action::version);
  EXPECT_EQ(parse({"--list", "--rank", "3"}).action, Action::list);
  EXPECT_EQ(parse({"--print-config"}).action, Action::print_config);
  EXPECT_EQ(parse({"--print-config=false"}).action, Action::run);
  EXPECT_THAT(refusal({"--print-config", "--rank", "0"}), HasSubstr("option rank"));
}

// Another value than the default for options that check() or the list of methods looks into.
const std::map<std::string, std::string> structured = {{"adapted-layers", "0,2,5"},
                                                       {"adaptation-steps", "0,5,20"},
                                                       {"matrix-common-values", "0.1,1e-3"},
                                                       {"matrix-client-values", "1;;2.5,7"},
                                                       {"clients-per-round", "3"},
                                                       {"held-out-clients", "2"},
                                                       {"output", "some folder/a=b"},
                                                       {"algorithm", "staged"},
                                                       {"clients", "11"}};

// Random values that are allowed; doubles with all their bits.
std::string another_value(const OptionEntry& entry, std::mt19937_64& random) {
  if (structured.contains(entry.name)) return structured.at(entry.name);
  const Constraint& c = entry.constraint;
  if (entry.is_flag()) return "true";
  if (!c.choices.empty()) return c.choices[random() % c.choices.size()];
  const double low = std::isfinite(c.low) ? c.low : -1e6;
  const double high = std::isfinite(c.high) ? c.high : low + 1e6;
  const double value = std::uniform_real_distribution<double>(low, high)(random);
  if (std::holds_alternative<int64_t*>(entry.field)) return std::to_string(std::llround(std::floor(value)));
  if (std::holds_alternative<double*>(entry.field)) return format_exact(value);
  return "text with; signs = \"quoted\" [0]";
}

void expect_round_trip(const std::vector<std::string>& words, const std::string& path) {
  Invocation given = parse(words);
  std::ofstream(path) << printed(given);
  Invocation back = parse({"--config", path});
  EXPECT_EQ(list_values(given.options), list_values(back.options)) << join(words, " ");
  ASSERT_EQ(given.method_options == nullptr, back.method_options == nullptr);
  if (given.method_options) {
    EXPECT_EQ(list_values(*given.method_options), list_values(*back.method_options));
  }
  EXPECT_EQ(printed(given), printed(back));
}

TEST_F(CommandLine, PrintConfigReproducesEveryOption) {
  std::mt19937_64 random(5);
  const std::string path = file("printed.ini", "");
  Options options;
  for (int trial = 0; trial < 20; ++trial) {
    for (const OptionEntry& entry : list_options(options)) {
      expect_round_trip({"--" + entry.name + "=" + another_value(entry, random)}, path);
    }
    FirstOptions own;
    std::vector<std::string> words;
    for (const OptionEntry& entry : list_options(own))
      words.push_back("--" + entry.name + "=" + another_value(entry, random));
    expect_round_trip(words, path);
  }
}

TEST_F(CommandLine, PrintConfigReproducesAllOptionsAtOnce) {
  std::mt19937_64 random(6);
  const std::string path = file("printed.ini", "");
  for (int trial = 0; trial < 100; ++trial) {
    Options options;
    std::vector<std::string> words;
    for (const OptionEntry& entry : list_options(options)) {
      if (entry.name == "resume" || entry.name == "problem")
        continue;  // no company of overwrite, of small matrices
      words.push_back("--" + entry.name + "=" + another_value(entry, random));
    }
    expect_round_trip(words, path);
  }
}

TEST_F(CommandLine, PrintConfigLeavesOutWhatIsNotTheRun) {
  const std::string text = printed(parse({}));
  for (const char* name : {"resume", "overwrite", "dry-run", "config", "help", "print-config"}) {
    EXPECT_THAT(text, testing::Not(HasSubstr("\n" + std::string(name) + " ="))) << name;
  }
  EXPECT_THAT(text, AllOf(HasSubstr("\n# federation\nclients = 8\n"), HasSubstr("\nmode = exact\n")));
  EXPECT_THAT(printed(parse({"--overwrite"})), HasSubstr("\noverwrite = true\n"));
}

TEST_F(CommandLine, HelpShowsEveryOptionWithinAHundredColumns) {
  std::ostringstream page;
  print_help(page, methods());
  Options options;
  FirstOptions first;
  ThirdOptions third;
  for (OptionSet* set : {static_cast<OptionSet*>(&options), static_cast<OptionSet*>(&first),
                         static_cast<OptionSet*>(&third)}) {
    for (const OptionEntry& entry : list_options(*set)) {
      const std::string shown = format_value(entry).empty() ? "empty" : format_value(entry);
      const std::string value = entry.is_flag() ? "" : " [" + shown + "]";
      EXPECT_THAT(page.str(), HasSubstr("\n  --" + entry.name + value + " ")) << entry.name;
    }
  }
  EXPECT_THAT(page.str(), AllOf(HasSubstr("Only with --algorithm staged"), HasSubstr("(adamw | sgd)"),
                                HasSubstr("(1 to 1024)"), HasSubstr("(above 0)"), HasSubstr("  85  ")));
  for (const std::string& line : split(page.str(), '\n')) {
    EXPECT_LE(line.size(), 100u) << line;
    EXPECT_EQ(line.find('\x01'), std::string::npos) << line;
    EXPECT_FALSE(line.ends_with(' ')) << line;
  }
}

TEST_F(CommandLine, ListAlignsItsSections) {
  std::ostringstream page;
  print_list(page,
             {{"methods", {{"pf2lora", "bilevel"}, {"local", "alone"}}}, {"partitions", {{"iid", "alike"}}}});
  EXPECT_EQ(page.str(), "Methods\n  pf2lora  bilevel\n  local    alone\n\nPartitions\n  iid      alike\n");
}

}  // namespace
}  // namespace pf2lora
