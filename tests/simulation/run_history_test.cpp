// What is known of every start of the program, through checkpoints and in results.h5.
#include "simulation/run_history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "io/temporary_directory.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A run that was killed after the checkpoint of round 8 and came to its end on fewer ranks.
RunHistory killed_and_resumed() {
  const auto start = [](const std::string& utc, int64_t ranks, int64_t threads,
                        const std::vector<std::string>& hosts, const std::string& words) {
    return std::vector<Attribute>{
        {"command_line", words}, {"start_utc", utc}, {"git_commit", "abc"}, {"cpu_model", "A CPU"},
        {"hosts", hosts},        {"ranks", ranks},   {"threads", threads},  {"libtorch_version", "2.13.0"}};
  };
  return {
      {1, 8, "", "", start("2025-01-01T00:00:00Z", 3, 1, {"b", "a", "b"}, "pf2lora --output 'my \"run\"\n'")},
      {9, 20, "2025-01-02T01:00:00Z", "done", start("2025-01-02T00:00:00Z", 1, 2, {"c"}, "pf2lora")}};
}

TEST(RunHistory, ReadsBackWhatItWrote) {
  const RunHistory history = killed_and_resumed(), back = read_history(history_text(history));
  ASSERT_EQ(back.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(back[i].first_round, history[i].first_round);
    EXPECT_EQ(back[i].last_round, history[i].last_round);
    EXPECT_EQ(back[i].end_utc, history[i].end_utc);
    EXPECT_EQ(back[i].reason, history[i].reason);
    ASSERT_EQ(back[i].start.size(), history[i].start.size());
    for (size_t k = 0; k < back[i].start.size(); ++k) {
      EXPECT_EQ(back[i].start[k].name, history[i].start[k].name);
      EXPECT_EQ(back[i].start[k].value, history[i].start[k].value) << back[i].start[k].name;
    }
  }
  EXPECT_THAT(read_history(""), IsEmpty());
  EXPECT_THAT(read_history(history_text({})), IsEmpty());
}

TEST(RunHistory, BytesThatAreNoTextDoNotEndARun) {
  const std::string text = history_text({{1, 2, "", "", {{"command_line", std::string("pf2lora \xff")}}}});
  EXPECT_THAT(start_fact(read_history(text).front(), "command_line"), testing::StartsWith("pf2lora "));
}

TEST(RunHistory, ADamagedTextIsRefused) {
  const std::string text = history_text(killed_and_resumed());
  for (const std::string& damaged :
       {text.substr(0, text.size() / 2), std::string("[{}]"), std::string("{")}) {
    EXPECT_THROW(read_history(damaged), InputError) << damaged;
  }
}

TEST(RunHistory, ResultsListEverySegment) {
  const TemporaryDirectory directory;
  const RunHistory history = killed_and_resumed();
  Recorder recorder(directory.path(), {{{.name = "segment", .size = 2}}, history_variables()}, {}, {});
  put_history(recorder, history);
  recorder.join();
  const Hdf5File file = Hdf5File::open(directory / "results.h5");
  EXPECT_THAT(file.read<int64_t>("segment_first_round"), ElementsAre(1, 9));
  EXPECT_THAT(file.read<int64_t>("segment_last_round"), ElementsAre(8, 20));
  EXPECT_THAT(file.read<std::string>("segment_end_utc"), ElementsAre("", "2025-01-02T01:00:00Z"));
  EXPECT_THAT(file.read<std::string>("segment_exit"), ElementsAre("unknown", "done"));
  EXPECT_THAT(file.read<int64_t>("segment_ranks"), ElementsAre(3, 1));
  EXPECT_THAT(file.read<int64_t>("segment_threads"), ElementsAre(1, 2));
  EXPECT_THAT(file.read<std::string>("segment_hosts"), ElementsAre("b, a", "c"));
  EXPECT_THAT(file.read<std::string>("segment_command_line"),
              ElementsAre("pf2lora --output 'my \"run\"\n'", "pf2lora"));
}

TEST(RunHistory, SaysWhatChangesBits) {
  const RunHistory history = killed_and_resumed();
  EXPECT_THAT(changes_of_bits(history[0], history[1]),
              ElementsAre(AllOf(HasSubstr("--threads is 2"), HasSubstr("was 1"), HasSubstr("last digits"))));
  EXPECT_THAT(changes_of_bits(history[0], history[0]), IsEmpty());
  RunSegment other = history[0];
  for (Attribute& attribute : other.start)
    if (attribute.name == "cpu_model") attribute.value = std::string("Another CPU");
  EXPECT_THAT(changes_of_bits(history[0], other), ElementsAre(HasSubstr("the processor is Another CPU")));
}

}  // namespace
}  // namespace pf2lora
