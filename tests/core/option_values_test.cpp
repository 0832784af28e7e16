#include "core/option_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "core/error.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using Entries = std::vector<std::string>;

// What the OptionError that `call` must throw says.
template <class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const OptionError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no OptionError was thrown";
  return "";
}

std::string refusal(const OptionEntry& entry, const std::string& text) {
  return message_of([&] { assign_value(entry, text); });
}

TEST(Options, EveryOptionExplainsItselfAndItsDefaultIsAllowed) {
  Options options;
  std::set<std::string> names;
  for (const OptionEntry& entry : list_options(options)) {
    EXPECT_FALSE(entry.help.empty()) << entry.name;
    EXPECT_FALSE(entry.group.empty()) << entry.name;
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name << " is declared twice";
    EXPECT_EQ(entry.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz-"), std::string::npos) << entry.name;
    EXPECT_NO_THROW(assign_value(entry, format_value(entry))) << entry.name;
  }
  EXPECT_GT(names.size(), 40u);
}

TEST(Options, AssigningAValueChangesThatFieldAlone) {
  Options options;
  const auto before = list_values(options);
  for (const OptionEntry& entry : list_options(options)) {
    if (entry.name == "rank") assign_value(entry, "5");
  }
  EXPECT_EQ(options.rank, 5);
  const auto after = list_values(options);
  ASSERT_EQ(before.size(), after.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i] == after[i], before[i].name != "rank") << before[i].name;
  }
}

TEST(ListValues, KeepsTypes) {
  Options options;
  std::map<std::string, OptionValue> values;
  for (const OptionValue& value : list_values(options)) values[value.name] = value;
  EXPECT_EQ(std::get<bool>(values["resume"].value), false);
  EXPECT_EQ(std::get<int64_t>(values["rounds"].value), 10);
  EXPECT_EQ(std::get<double>(values["learning-rate"].value), 2e-3);
  EXPECT_EQ(std::get<std::string>(values["pooling"].value), "auto");
  EXPECT_THAT(std::get<Entries>(values["targets"].value), ElementsAre("query", "value"));
}

TEST(AssignValue, TakesOnlyWholeIntegersWithinBounds) {
  int64_t field = 0;
  const OptionEntry entry{"group", "rank", "help", between(1, 1024), &field};
  assign_value(entry, "1024");
  EXPECT_EQ(field, 1024);
  for (const char* bad : {"10x", "x", "", "1e3", "1.0", " 3", "+3", "0x10"}) {
    EXPECT_THAT(refusal(entry, bad), AllOf(HasSubstr("option rank"), HasSubstr(std::string("'") + bad + "'")))
        << bad;
  }
  EXPECT_EQ(refusal(entry, "0"), "option rank: '0' is out of bounds; give an integer from 1 to 1024");
  EXPECT_EQ(refusal(entry, "1025"), "option rank: '1025' is out of bounds; give an integer from 1 to 1024");
  EXPECT_EQ(refusal(entry, "9223372036854775808"),
            "option rank: '9223372036854775808' is out of range; give an integer from 1 to 1024");
  EXPECT_EQ(field, 1024);
}

TEST(AssignValue, TakesOnlyFiniteNumbersWithinBounds) {
  double field = 1;
  const OptionEntry entry{"group", "learning-rate", "help", positive(), &field};
  assign_value(entry, "2e-3");
  EXPECT_EQ(field, 0.002);
  for (const char* bad :
       {"nan", "inf", "-inf", "infinity", "1e999", "1,5", "0.1x", "0", "-0.0", "-1", "1e-400"}) {
    EXPECT_THAT(refusal(entry, bad), HasSubstr("give a number above 0")) << bad;
  }
}

TEST(AssignValue, ReadsFlagsInTheirUsualSpellings) {
  bool field = false;
  const OptionEntry entry{"group", "resume", "help", anything(), &field};
  for (const char* yes : {"true", "Yes", "ON", "1"}) {
    field = false;
    assign_value(entry, yes);
    EXPECT_TRUE(field) << yes;
  }
  for (const char* no : {"false", "no", "Off", "0"}) {
    field = true;
    assign_value(entry, no);
    EXPECT_FALSE(field) << no;
  }
  EXPECT_EQ(refusal(entry, "maybe"), "option resume: 'maybe' is neither true nor false; give true or false");
}

TEST(AssignValue, SuggestsTheNearestChoice) {
  std::string field;
  const OptionEntry entry{"group", "optimizer", "help", one_of({"adamw", "sgd"}), &field};
  EXPECT_EQ(refusal(entry, "adam"),
            "option optimizer: 'adam' is not known; give one of adamw, sgd; did you mean 'adamw'?");
}

TEST(AssignValue, RefusesEmptyAndUnknownListEntries) {
  Entries field;
  const OptionEntry entry{"group", "targets", "help", one_of({"query", "value"}), &field};
  assign_value(entry, "value, query");
  EXPECT_THAT(field, ElementsAre("value", "query"));
  for (const char* bad : {",", "query,", ",query", "query,,value"}) {
    EXPECT_THAT(refusal(entry, bad), HasSubstr("empty entry")) << bad;
  }
  EXPECT_THAT(refusal(entry, "query,valu"), HasSubstr("did you mean 'value'?"));
}

// As format_value writes it; check() knows which lists need an entry.
TEST(AssignValue, TakesNoTextForAnEmptyList) {
  Entries field = {"query"};
  const OptionEntry entry{"group", "client-ranks", "help", anything(), &field};
  assign_value(entry, "");
  EXPECT_THAT(field, ElementsAre());
  EXPECT_EQ(format_value(entry), "");
}

TEST(AssignValue, RefusesTextThatAnIniFileCannotHold) {
  std::string field;
  const OptionEntry entry{"group", "output", "help", anything(), &field};
  for (const char* bad : {"runs/#1", " run", "run ", "a\nb"})
    EXPECT_THAT(refusal(entry, bad), HasSubstr("option output"));
}

TEST(ParseClientValues, GivesEachClientItsListWhichMayBeEmpty) {
  EXPECT_THAT(parse_client_values("v", ";2.5,2"), ElementsAre(ElementsAre(), ElementsAre(2.5, 2)));
  EXPECT_THAT(parse_client_values("v", "1; 2 , 3 ;"),
              ElementsAre(ElementsAre(1), ElementsAre(2, 3), ElementsAre()));
  EXPECT_THAT(parse_client_values("v", ""), ElementsAre(ElementsAre()));
  EXPECT_THAT(parse_number_list("v", ""), ElementsAre());
  for (const char* bad : {"1,,2", "1,", "x", "1;y", "nan", "1 2"}) {
    EXPECT_THAT(message_of([&] { parse_client_values("v", bad); }), HasSubstr("option v: ")) << bad;
  }
}

TEST(ParseAdaptationSteps, IsAutoNoneOrIncreasing) {
  EXPECT_FALSE(parse_adaptation_steps({"auto"}).has_value());
  EXPECT_THAT(parse_adaptation_steps({"none"}).value(), ElementsAre());
  EXPECT_THAT(parse_adaptation_steps({"0", "5", "10"}).value(), ElementsAre(0, 5, 10));
  for (const Entries& bad : {Entries{}, Entries{"auto", "5"}, Entries{"5", "none"}, Entries{"5", "5"},
                             Entries{"5", "3"}, Entries{"-1"}, Entries{"1.5"}, Entries{"some"}}) {
    EXPECT_THAT(message_of([&] { parse_adaptation_steps(bad); }), HasSubstr("option adaptation-steps"));
  }
}

TEST(ParseAdaptedLayers, IsAllTopOrDistinctNumbers) {
  EXPECT_THAT(parse_adapted_layers({"all"}, 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(parse_adapted_layers({"top:2"}, 6), ElementsAre(4, 5));
  EXPECT_THAT(parse_adapted_layers({"top:6"}, 6), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(parse_adapted_layers({"5", "0"}, 6), ElementsAre(0, 5));
  for (const Entries& bad :
       {Entries{}, Entries{"all", "1"}, Entries{"1", "top:1"}, Entries{"top:0"}, Entries{"top:"},
        Entries{"top:-1"}, Entries{"2", "2"}, Entries{"-1"}, Entries{"last"}}) {
    EXPECT_THAT(message_of([&] { check_adapted_layers(bad); }), HasSubstr("option adapted-layers"));
  }
}

TEST(ParseAdaptedLayers, RefusesLayersBeyondTheModel) {
  EXPECT_EQ(
      message_of([] { parse_adapted_layers({"6"}, 6); }),
      "option adapted-layers: '6' reaches beyond the model, which has 6 layers (0 to 5); choose among these");
  EXPECT_THAT(message_of([] { parse_adapted_layers({"top:7"}, 6); }), HasSubstr("beyond the model"));
}

// Prompts are no pairs at sites, and nothing is frozen under them; another unmet condition is not told as
// well.
TEST(DescribeIdle, TellsWhatPromptsDoNotUse) {
  const Entries pairs = {"prefix-cache", "rank", "lora-alpha", "targets", "adapted-layers"};
  Options options;
  EXPECT_THAT(describe_idle(list_options(options), pairs), ElementsAre());
  for (const std::string algorithm : {"prompt", "prefix"}) {
    options.algorithm = algorithm;
    Entries expected;
    for (const std::string& name : pairs)
      expected.push_back("--" + name + " has no effect with --algorithm " + algorithm);
    Entries given = pairs;
    given.push_back("client-learning-rate");
    EXPECT_EQ(describe_idle(list_options(options), given), expected);
  }
  options.problem = "matrix";
  EXPECT_THAT(describe_idle(list_options(options), {"targets"}),
              ElementsAre("--targets has no effect with --problem matrix, only with transformer"));
}

TEST(DescribeIdle, GoesByOtherOptionsAndByTheTaskOfTheDataset) {
  Options options;
  options.algorithm = "homlora";
  const auto idle = [&](const Entries& given, const std::vector<InputFact>& facts = {}) {
    return describe_idle(list_options(options), given, facts);
  };
  EXPECT_THAT(idle({"label-sort", "dirichlet-alpha", "client-rank"}),
              ElementsAre("--label-sort has no effect with --partition dirichlet, only with label-sort",
                          "--client-rank has no effect with --algorithm homlora, only with pf2lora"));
  options.generate_tokens = 0;
  const Entries of_texts = {"beams", "length-penalty", "span-tokens", "pooling"};
  EXPECT_THAT(idle(of_texts), ElementsAre("--beams has no effect with --generate-tokens 0",
                                          "--length-penalty has no effect with --generate-tokens 0"));
  options.generate_tokens = 64;
  EXPECT_THAT(
      idle(of_texts, {{"task", "generation"}}),
      ElementsAre("--pooling has no effect with the task generation, only with classification, regression",
                  "--span-tokens has no effect with the task generation, only with span",
                  "--length-penalty has no effect with --beams 1"));
  EXPECT_THAT(
      idle(of_texts, {{"task", "classification"}}),
      ElementsAre("--span-tokens has no effect with the task classification, only with span",
                  "--beams has no effect with the task classification, only with generation",
                  "--length-penalty has no effect with the task classification, only with generation"));
}

TEST(Check, AcceptsTheDefaults) {
  EXPECT_NO_THROW(check(Options()));
}

TEST(Check, RefusesCombinationsThatCannotBe) {
  const auto refusal_of = [](auto change) {
    Options options;
    change(options);
    return message_of([&] { check(options); });
  };
  EXPECT_THAT(refusal_of([](Options& o) { o.resume = o.overwrite = true; }),
              HasSubstr("resume and overwrite"));
  EXPECT_THAT(refusal_of([](Options& o) { o.held_out_clients = 8; }), HasSubstr("leaves nobody"));
  EXPECT_THAT(refusal_of([](Options& o) { o.held_out_clients = 3, o.clients_per_round = 6; }),
              HasSubstr("5 clients"));
  EXPECT_THAT(refusal_of([](Options& o) { o.targets = {"query", "value", "query"}; }), HasSubstr("'query'"));
  EXPECT_THAT(refusal_of([](Options& o) { o.targets = {}; }), HasSubstr("name at least one"));
  EXPECT_THAT(refusal_of([](Options& o) { o.adapted_layers = {}; }), HasSubstr("adapted-layers"));
  EXPECT_THAT(refusal_of([](Options& o) { o.adaptation_steps = {}; }), HasSubstr("adaptation-steps"));
  EXPECT_THAT(refusal_of([](Options& o) { o.adapted_layers = {"all", "1"}; }), HasSubstr("adapted-layers"));
  EXPECT_THAT(refusal_of([](Options& o) { o.adaptation_steps = {"9", "1"}; }), HasSubstr("adaptation-steps"));
  EXPECT_THAT(refusal_of([](Options& o) { o.matrix_common_values = "3,-1"; }),
              HasSubstr("matrix-common-values"));
  EXPECT_THAT(refusal_of([](Options& o) { o.output = ""; }), HasSubstr("output"));
  EXPECT_THAT(refusal_of([](Options& o) { o.problem = "matrix", o.matrix_rows = 4; }), HasSubstr("4 x 10"));
  EXPECT_THAT(refusal_of([](Options& o) { o.problem = "matrix", o.matrix_common_values = ""; }),
              HasSubstr("client 0"));
}

TEST(Check, AllowsTheEdges) {
  Options options;
  options.held_out_clients = 3;
  options.clients_per_round = 5;
  options.client_rank = 0;
  EXPECT_NO_THROW(check(options));
}

}  // namespace
}  // namespace pf2lora
