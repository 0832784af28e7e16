#include "io/results.h"

#include <cmath>
#include <limits>

#include "core/error.h"
#include "io/atomic_file.h"
#include "temporary_directory.h"

namespace pf2lora {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kClients = 3, kSites = 2;

// A small form of the schema of a run: evaluations and spectra come in other rounds than the rounds.
ResultsSchema schema(int64_t clients = kClients, int64_t sites = kSites) {
  return {.dimensions = {{"round", kRecordDimension},
                         {"evaluation", kRecordDimension},
                         {"spectrum", kRecordDimension},
                         {"client", clients},
                         {"site", sites},
                         {"index", 4},
                         {"phase", 2, std::vector<std::string>{"train", "move"}},
                         {"share", 2, std::vector<double>{0.9, 0.99}}},
          .variables = {{"train_loss", {"round", "client"}, VariableType::f64, "nat", "mean training loss"},
                        {"took_part", {"round", "client"}, VariableType::i32},
                        {"bytes_up", {"round", "client"}, VariableType::i64, "byte"},
                        {"phase_seconds", {"round", "phase"}, VariableType::f32, "s"},
                        {"correct", {"evaluation", "client"}, VariableType::i64},
                        {"loss", {"evaluation"}},
                        {"singular_values", {"spectrum", "client", "site", "index"}, VariableType::f32},
                        {"site_name", {"site"}, VariableType::string},
                        {"test_examples", {"client"}, VariableType::i64},
                        {"never_given", {"client"}, VariableType::i32},
                        {"majority", {}, VariableType::f64}}};
}

Recorder recorder(const std::string& directory, ResultsSchema form = schema()) {
  return {
      directory, std::move(form), {{"program", "pf2lora 0.1.0"}}, {{"seed", int64_t{1}}, {"resume", false}}};
}

// What a run records in a round follows from the round alone.
void record_round(Recorder& recorder, int64_t round, int64_t clients = kClients, int64_t sites = kSites) {
  const auto r = static_cast<double>(round);
  std::vector<double> losses, values;
  std::vector<int64_t> bytes;
  std::vector<double> took_part;
  for (int64_t k = 0; k < clients; ++k) {
    const bool in_cohort = (round + k) % 2 == 0;
    losses.push_back(in_cohort ? 1 / (r + static_cast<double>(k) + 1) : kNaN);
    took_part.push_back(in_cohort ? 1 : 0);
    bytes.push_back((int64_t{1} << 60) + round * 10 + k);  // more than a double holds
  }
  recorder.append("round", round, {{"train_loss", losses}, {"took_part", took_part}, {"bytes_up", bytes}});
  if (round % 3 == 0) {
    std::vector<double> correct(static_cast<size_t>(clients), r);
    recorder.append("evaluation", round, {{"correct", correct}, {"loss", std::vector<double>{r / 7}}});
  }
  if (round % 4 == 0) {
    for (int64_t i = 0; i < clients * sites * 4; ++i) values.push_back(r + static_cast<double>(i) / 8);
    recorder.append("spectrum", round, {{"singular_values", values}});
  }
  recorder.append("round", round, {{"phase_seconds", std::vector<double>{r, r / 2}}});
}

void put_static(Recorder& recorder) {
  recorder.put("site_name", std::vector<std::string>{"encoder.layer.0.query", "encoder.layer.0.value"});
  recorder.put("test_examples", std::vector<int64_t>{10, 20, 30});
  recorder.put("majority", std::vector<double>{0.25});
}

// Every dataset of a results file by name: shape, stored type, and the bytes of its values.
std::map<std::string, std::string> contents(const std::string& path) {
  std::map<std::string, std::string> all;
  const Hdf5File file = Hdf5File::open(path);
  const auto add = [&]<class T>(const std::string& name, T) {
    if (!file.holds<T>(name)) return;
    std::string text = typeid(T).name();
    for (const int64_t length : file.shape(name)) text += " " + std::to_string(length);
    const std::vector<T> values = file.read<T>(name);
    if constexpr (std::is_same_v<T, std::string>) {
      for (const std::string& value : values) text += value + "\n";
    } else {
      text.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    }
    all[name] = text;
  };
  for (const std::string& name : file.children()) {
    if (name == "options") continue;
    add(name, double{});
    add(name, float{});
    add(name, int64_t{});
    add(name, int32_t{});
    add(name, std::string{});
    EXPECT_EQ(all.count(name), 1u) << name;
  }
  return all;
}

// The contents of a run of `rounds` rounds that nothing disturbed.
std::map<std::string, std::string> undisturbed(int64_t rounds) {
  const TemporaryDirectory directory;
  Recorder run = recorder(directory.path());
  put_static(run);
  for (int64_t round = 0; round <= rounds; ++round) record_round(run, round);
  run.flush(rounds);
  run.join();
  return contents(run.path());
}

TEST(Results, HoldsRowsStaticsScalesAndAttributes) {
  const TemporaryDirectory directory;
  Recorder run = recorder(directory.path());
  put_static(run);
  for (int64_t round = 0; round <= 4; ++round) record_round(run, round);
  run.set_attribute("finished", true);
  run.join();
  const Hdf5File file = Hdf5File::open(directory / "results.h5");
  EXPECT_EQ(file.attribute<std::string>("/", "format"), "pf2lora-results");
  EXPECT_EQ(file.attribute<int64_t>("/", "format_version"), 2);
  EXPECT_EQ(file.attribute<std::string>("/", "program"), "pf2lora 0.1.0");
  EXPECT_TRUE(file.attribute<bool>("/", "finished"));
  EXPECT_EQ(file.attribute<int64_t>("options", "seed"), 1);
  EXPECT_FALSE(file.attribute<bool>("options", "resume"));

  EXPECT_THAT(file.read<int64_t>("round"), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(file.read<int64_t>("evaluation"), ElementsAre(0, 3));
  EXPECT_THAT(file.read<int64_t>("spectrum"), ElementsAre(0, 4));
  EXPECT_THAT(file.read<int64_t>("client"), ElementsAre(0, 1, 2));
  EXPECT_THAT(file.read<std::string>("phase"), ElementsAre("train", "move"));
  EXPECT_THAT(file.read<double>("share"), ElementsAre(0.9, 0.99));

  EXPECT_EQ(file.shape("train_loss"), (Shape{5, kClients}));
  const std::vector<double> losses = file.read<double>("train_loss");
  EXPECT_EQ(losses[0], 1.0);
  EXPECT_TRUE(std::isnan(losses[1]));
  EXPECT_EQ(losses[4 * kClients + 2], 1.0 / 7);
  EXPECT_THAT(file.read_rows<int32_t>("took_part", 1, 1), ElementsAre(0, 1, 0));
  EXPECT_THAT(file.read_rows<int64_t>("bytes_up", 3, 1),
              ElementsAre((int64_t{1} << 60) + 30, (int64_t{1} << 60) + 31, (int64_t{1} << 60) + 32));
  EXPECT_THAT(file.read<int64_t>("correct"), ElementsAre(0, 0, 0, 3, 3, 3));
  EXPECT_EQ(file.shape("singular_values"), (Shape{2, kClients, kSites, 4}));
  EXPECT_EQ(file.read<float>("singular_values").back(), 4.0f + 23.0f / 8);
  EXPECT_THAT(file.read<int64_t>("test_examples"), ElementsAre(10, 20, 30));
  EXPECT_THAT(file.read<double>("majority"), ElementsAre(0.25));
  EXPECT_THAT(file.shape("majority"), IsEmpty());

  EXPECT_EQ(file.attribute<std::string>("train_loss", "units"), "nat");
  EXPECT_EQ(file.attribute<std::string>("train_loss", "long_name"), "mean training loss");
  for (const char* axis : {"round", "evaluation", "spectrum", "client", "site", "index", "phase", "share"}) {
    EXPECT_EQ(file.attribute<std::string>(axis, "CLASS"), "DIMENSION_SCALE") << axis;
    EXPECT_EQ(file.attribute<std::string>(axis, "NAME"), axis);
  }
  for (const char* name : {"train_loss", "singular_values", "site_name", "loss"}) {
    EXPECT_TRUE(file.has_attribute(name, "DIMENSION_LIST")) << name;
  }
}

TEST(Results, MissingValuesAreFilledAndOnlyThenMarked) {
  const TemporaryDirectory directory;
  Recorder run = recorder(directory.path());
  run.append("round", 1, {{"took_part", std::vector<double>{1, 0, 1}}});
  run.append("round", 2,
             {{"bytes_up", std::vector<double>{1, kNaN, 3}}, {"took_part", std::vector<double>(3)}});
  run.append("spectrum", 2, {});
  run.join();
  const Hdf5File file = Hdf5File::open(directory / "results.h5");
  constexpr int64_t kMissing = -9223372036854775806;  // NC_FILL_INT64
  EXPECT_THAT(file.read<int64_t>("bytes_up"), ElementsAre(kMissing, kMissing, kMissing, 1, kMissing, 3));
  EXPECT_EQ(file.attribute<int64_t>("bytes_up", "_FillValue"), kMissing);
  EXPECT_FALSE(file.has_attribute("took_part", "_FillValue"));
  EXPECT_THAT(file.read<int32_t>("never_given"), ElementsAre(-2147483647, -2147483647, -2147483647));
  EXPECT_EQ(file.attribute<int64_t>("never_given", "_FillValue"), -2147483647);
  for (const double loss : file.read<double>("train_loss")) EXPECT_TRUE(std::isnan(loss));
  for (const float value : file.read<float>("singular_values")) EXPECT_TRUE(std::isnan(value));
  EXPECT_EQ(file.shape("singular_values")[0], 1);
  EXPECT_EQ(file.shape("correct"), (Shape{0, kClients})) << "no evaluation at all";
}

TEST(Results, AxesWithoutEntriesAreLegal) {
  const TemporaryDirectory directory;
  Recorder run = recorder(directory.path(), schema(kClients, 0));
  for (int64_t round = 0; round <= 4; ++round) {
    record_round(run, round, kClients, 0);
    run.flush(round);
  }
  run.join();
  const Hdf5File file = Hdf5File::open(directory / "results.h5");
  EXPECT_EQ(file.shape("singular_values"), (Shape{2, kClients, 0, 4}));
  EXPECT_EQ(file.shape("site"), (Shape{0}));
  EXPECT_EQ(file.shape("site_name"), (Shape{0}));

  Recorder nothing = recorder(directory.path(), schema(0, 0));
  nothing.join();
  EXPECT_EQ(Hdf5File::open(directory / "results.h5").shape("train_loss"), (Shape{0, 0}));
}

TEST(Results, SegmentsAreJoinedToTheSameFile) {
  const auto expected = undisturbed(20);
  for (const int64_t every : {1, 3, 7, 20}) {
    const TemporaryDirectory directory;
    Recorder run = recorder(directory.path());
    put_static(run);
    for (int64_t round = 0; round <= 20; ++round) {
      record_round(run, round);
      if (round % every == 0) {
        run.flush(round);
        run.join();  // a look at the run in between changes nothing
        EXPECT_EQ(Hdf5File::open(run.path()).shape("round"), (Shape{round + 1}));
      }
    }
    run.join();
    EXPECT_EQ(contents(run.path()), expected) << every;
  }
}

TEST(Results, CompressedRowsOfManySegmentsAreComplete) {
  const TemporaryDirectory directory;
  constexpr int64_t kMany = 3000;  // 24 kB a row: 21 rows a chunk, segments of 5
  Recorder run = recorder(directory.path(), schema(kMany));
  for (int64_t round = 1; round <= 43; ++round) {
    std::vector<int64_t> bytes;
    for (int64_t k = 0; k < kMany; ++k) bytes.push_back(round * kMany + k);
    run.append("round", round, {{"bytes_up", bytes}});
    if (round % 5 == 0) run.flush(round);
  }
  run.join();
  const Hdf5File file = Hdf5File::open(run.path());
  EXPECT_GT(file.chunk_rows("bytes_up"), 1);
  const std::vector<int64_t> bytes = file.read<int64_t>("bytes_up");
  ASSERT_EQ(bytes.size(), 43u * kMany);
  for (size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], kMany + static_cast<int64_t>(i));
  EXPECT_LT(fs::file_size(run.path()), 43u * kMany * 8 / 2) << "it is compressed";
}

TEST(Results, AResumedRunEndsWithTheSameDatasets) {
  const auto expected = undisturbed(10);
  // The crash came after the segment of round 9 and before its checkpoint, or in the middle of round 8.
  for (const int64_t crash : {9, 8}) {
    const TemporaryDirectory directory;
    {
      Recorder run = recorder(directory.path());
      put_static(run);
      for (int64_t round = 0; round <= crash; ++round) {
        record_round(run, round);
        if (round % 3 == 0) run.flush(round);
      }
    }
    write_file(directory / "segments/000009.h5.partial", "cut short");
    Recorder run = recorder(directory.path());
    run.resume(6);
    EXPECT_FALSE(fs::exists(directory / "segments/000009.h5"));
    EXPECT_FALSE(fs::exists(directory / "segments/000009.h5.partial"));
    EXPECT_EQ(run.last_round(), 6);
    put_static(run);
    for (int64_t round = 7; round <= 10; ++round) record_round(run, round);
    run.flush(10);
    run.join();
    EXPECT_EQ(contents(run.path()), expected) << crash;
    run.remove_segments();
    EXPECT_FALSE(fs::exists(directory / "segments"));
  }
}

TEST(Results, ACompleteRunCanBeExtended) {
  const TemporaryDirectory directory;
  Recorder run = recorder(directory.path());
  put_static(run);
  for (int64_t round = 0; round <= 7; ++round) {
    record_round(run, round);
    if (round >= 5) run.flush(round);
  }
  run.join();
  run.remove_segments();
  EXPECT_THROW(run.join(), Error) << "it would lose the rows";

  Recorder more = recorder(directory.path());
  more.resume(6);  // an older checkpoint than the results
  put_static(more);
  for (int64_t round = 7; round <= 12; ++round) record_round(more, round);
  more.flush(12);
  more.join();
  EXPECT_EQ(contents(more.path()), undisturbed(12));
}

TEST(Results, ACutRemovalOfSegmentsLosesNothing) {
  const TemporaryDirectory directory;
  Recorder run = recorder(directory.path());
  put_static(run);
  for (int64_t round = 0; round <= 8; ++round) {
    record_round(run, round);
    run.flush(round);
  }
  run.join();
  fs::remove(directory / "segments/000003.h5");
  Recorder again = recorder(directory.path());
  again.resume(8);
  put_static(again);
  again.join();
  EXPECT_EQ(contents(again.path()), undisturbed(8));
}

TEST(Results, AnAxisThatMayGrowDoesSoWhereARunIsResumed) {
  const TemporaryDirectory directory;
  const auto grows_to = [&](int64_t processes) {
    return recorder(directory.path(),
                    {.dimensions = {{"round", kRecordDimension},
                                    {"phase", 2},
                                    {.name = "process", .size = processes, .may_grow = true}},
                     .variables = {{"seconds", {"round", "phase", "process"}, VariableType::f64, "s"}}});
  };
  const auto width = [&] { return recorded_width(directory.path(), "round", "seconds"); };
  EXPECT_EQ(width(), 0);
  {
    Recorder run = grows_to(1);
    run.append("round", 1, {{"seconds", std::vector<double>{1, 2}}});
    run.flush(1);
  }
  EXPECT_EQ(width(), 1);
  {
    Recorder run = grows_to(3);
    run.resume(1);
    run.append("round", 2, {{"seconds", std::vector<double>{3, 4, 5, 6, 7, 8}}});
    run.flush(2);
    run.join();
    run.remove_segments();
  }
  EXPECT_EQ(width(), 3);
  const std::vector<double> both = {1, 0, 0, 2, 0, 0, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(Hdf5File::open(directory / "results.h5").read<double>("seconds"), both);
  EXPECT_THAT(message_of<InputError>([&] { grows_to(2).resume(2); }), HasSubstr("other dimensions"))
      << "numbers would be lost";
  Recorder run = grows_to(4);  // out of results.h5 itself
  run.resume(2);
  run.join();
  EXPECT_EQ(Hdf5File::open(directory / "results.h5").shape("seconds"), (Shape{2, 2, 4}));
}

TEST(Results, LostOrForeignRowsAreRefused) {
  const TemporaryDirectory directory;
  {
    Recorder run = recorder(directory.path());
    for (int64_t round = 0; round <= 8; ++round) {
      record_round(run, round);
      if (round % 2 == 0) run.flush(round);
    }
  }
  const auto refused = [&](int64_t round, int64_t clients, const std::string& part) {
    Recorder run = recorder(directory.path(), schema(clients));
    EXPECT_THAT(message_of<InputError>([&] { run.resume(round); }),
                AllOf(HasSubstr(directory.path()), HasSubstr(part), HasSubstr("--overwrite")));
  };
  refused(8, kClients + 1, "other dimensions");
  refused(9, kClients, "up to round 9");
  fs::remove(directory / "segments/000004.h5");
  refused(8, kClients, "up to round 8");
  EXPECT_TRUE(fs::exists(directory / "segments/000008.h5")) << "nothing is removed before it is sure";
  write_file(directory / "segments/000008.h5", "damaged");
  EXPECT_THROW(recorder(directory.path()).resume(8), InputError);
}

TEST(Results, SurvivesKillsAtAnyMoment) {
  const TemporaryDirectory directory;
  const std::string checkpoint = directory / "checkpoint";
  constexpr int64_t kRounds = 60;
  const auto last_checkpoint = [&] {
    return fs::exists(checkpoint) ? std::stoll(read_file(checkpoint)) : -1;
  };
  // A run with a checkpoint every second round and a pause, so that kills fall everywhere.
  const auto run_on = [&] {
    Recorder run = recorder(directory.path());
    put_static(run);
    const int64_t done = last_checkpoint();
    if (done >= 0) run.resume(done);
    for (int64_t round = done + 1; round <= kRounds; ++round) {
      record_round(run, round);
      if (round % 2 == 0) {
        run.flush(round);
        run.join();
        write_text_atomically(checkpoint, std::to_string(round));
      }
    }
    run.join();
    run.remove_segments();
  };
  const TemporaryDirectory scratch;
  const double duration = duration_of([&] {
    Recorder run = recorder(scratch.path());
    record_round(run, 0);
    run.flush(0);
    run.join();
  });
  int kills = 0;
  for (int attempt = 0; attempt < 20 && last_checkpoint() < kRounds; ++attempt) {
    const pid_t child = in_child(run_on);
    ::usleep(static_cast<useconds_t>(duration * (0.4 + 0.37 * attempt)));
    const int status = end_of(child, true);
    if (WIFSIGNALED(status))
      ++kills;
    else
      ASSERT_EQ(status, 0);
    if (fs::exists(directory / "results.h5")) contents(directory / "results.h5");  // whole at any moment
  }
  EXPECT_GE(kills, 2);
  ASSERT_EQ(end_of(in_child(run_on)), 0);
  EXPECT_EQ(contents(directory / "results.h5"), undisturbed(kRounds));
}

TEST(Results, MisuseIsNamed) {
  const TemporaryDirectory directory;
  Recorder run = recorder(directory.path());
  const auto misuse = [&](const std::function<void()>& act, const std::string& part) {
    EXPECT_THAT(message_of<Error>(act), HasSubstr(part));
  };
  const std::vector<double> three(3), two(2);
  misuse([&] { run.append("rounds", 1, {}); }, "'rounds'");
  misuse([&] { run.append("round", 1, {{"loss", two}}); }, "'loss'");
  misuse([&] { run.append("round", 1, {{"train_loss", two}}); }, "2 values for a row of 3");
  misuse([&] { run.append("round", 1, {{"took_part", std::vector<double>{0, 0.5, 1}}}); }, "0.5");
  misuse([&] { run.append("round", 1, {{"bytes_up", std::vector<double>{0, 0x1p63, 1}}}); }, "'bytes_up'");
  run.append("round", 2, {{"took_part", std::vector<int64_t>{1, 1, 1}}, {"train_loss", three}});
  misuse([&] { run.append("round", 2, {{"train_loss", three}}); }, "twice");
  misuse([&] { run.append("round", 3, {{"took_part", std::vector<int64_t>{1, 1, 1LL << 31}}}); }, "32-bit");
  misuse([&] { run.append("round", 2, {}); }, "after round 3");
  misuse([&] { run.flush(2); }, "after the flushed round 2");
  run.flush(3);
  misuse([&] { run.append("evaluation", 3, {}); }, "after round 3");
  run.append("round", 4, {});
  misuse([&] { run.resume(3); }, "after rows were recorded");
  misuse([&] { run.put("majority", three); }, "3 values instead of 1");
  misuse([&] { run.put("site_name", two); }, "texts");
  misuse([&] { run.put("train_loss", three); }, "'train_loss'");

  const auto bad = [&](const std::function<void(ResultsSchema&)>& change, const std::string& part) {
    ResultsSchema form = schema();
    change(form);
    misuse([&] { recorder(directory.path(), form); }, part);
  };
  bad([](ResultsSchema& s) { s.variables[0].units = "seconds"; }, "give a symbol");
  bad([](ResultsSchema& s) { s.variables[0].name = "client"; }, "'client' is taken twice");
  bad([](ResultsSchema& s) { s.variables[0].dimensions = {"client", "round"}; }, "'round'");
  bad([](ResultsSchema& s) { s.variables[0].dimensions = {"other"}; }, "'other'");
  bad([](ResultsSchema& s) { s.dimensions[6].size = 3; }, "2 coordinates for a size of 3");
}

}  // namespace
}  // namespace pf2lora
