#include "app/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <sstream>
#include <string>

#include "core/text.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

std::string summary_of(const RunSummary& summary) {
  std::ostringstream out;
  print_summary(out, summary);
  return out.str();
}

std::string plan_text(const RunPlan& plan) {
  std::ostringstream out;
  print_plan(out, plan);
  return out.str();
}

// The cells of the line that begins with `title`, without it.
std::vector<std::string> cells(const std::string& text, const std::string& title) {
  for (const std::string& line : split(text, '\n')) {
    const std::string_view content = trim(line);
    if (!content.starts_with(title)) continue;
    std::vector<std::string> result = split(content.substr(title.size()), ' ');
    std::erase(result, "");
    return result;
  }
  ADD_FAILURE() << "no line begins with " << title << " in\n" << text;
  return {};
}

RunSummary measured_run() {
  RunSummary summary;
  summary.algorithm = "pf2lora";
  summary.rounds = summary.rounds_done = summary.evaluated_round = 12;
  summary.seconds = 245;
  summary.peak_bytes = int64_t{321} << 20;
  summary.majority_accuracy = {0.4, 0.5, 0.6, 0.7};
  summary.common_accuracy = {0.6, 0.7, 0.8, 0.9};
  summary.personal_accuracy = {0.8, 0.8, 0.7, 0.9};
  return summary;
}

TEST(PrintSummary, GivesTheSpreadOverClientsBesideTheMajorityClass) {
  const std::string text = summary_of(measured_run());
  using Cells = std::vector<std::string>;
  // Deviations by hand: sqrt(0.0125) for both ramps and sqrt(0.005) for personal.
  EXPECT_EQ(cells(text, "majority class"), (Cells{"55.0", "11.2", "40.0", "70.0", "40.0", "70.0"}));
  EXPECT_EQ(cells(text, "common"), (Cells{"75.0", "11.2", "60.0", "90.0", "60.0", "90.0"}));
  EXPECT_EQ(cells(text, "personal"), (Cells{"80.0", "7.1", "70.0", "90.0", "70.0", "90.0"}));
  // Differences 0.2, 0.1, -0.1, 0: mean 0.05, variance (0.0225 + 0.0025 + 0.0225 + 0.0025) / 4 = 0.0125.
  EXPECT_EQ(cells(text, "gain of personal over common"),
            (Cells{"5.0", "11.2", "-10.0", "20.0", "-10.0", "20.0"}));
  EXPECT_THAT(text,
              AllOf(HasSubstr("pf2lora: 12 rounds done, 4 min 05 s, at most 321.0 MiB of memory a rank\n"),
                    HasSubstr("after round 12"), HasSubstr("personal below common: 1 of 4 clients")));
}

TEST(PrintSummary, NamesWhatIsRightAndTheLossOfItsUnit) {
  RunSummary summary = measured_run();
  summary.right = "tokens foretold", summary.unit = "a token";
  summary.common_loss = {2, 3, 2, 3};
  summary.personal_loss = {1, nan, 4, 2.5};
  summary.adapted = {{5, {0.9, 0.9, 0.9, 0.8}, {1, 2, 3, 4}}};
  const std::string text = summary_of(summary);
  using Cells = std::vector<std::string>;
  EXPECT_THAT(text, AllOf(HasSubstr("tokens foretold over clients, %"), HasSubstr("Loss after round 12")));
  const std::string losses = text.substr(text.find("loss of a token, over clients"));
  EXPECT_EQ(cells(losses, "common"), (Cells{"2.500", "0.500", "2.000", "3.000"}));
  EXPECT_EQ(cells(losses, "personal"), (Cells{"2.500", "1.225", "1.000", "4.000"}));  // sqrt(4.5 / 3)
  EXPECT_EQ(cells(losses, "adapted by 5 local steps"), (Cells{"2.500", "1.118", "1.000", "4.000"}));
  EXPECT_THAT(summary_of(measured_run()), Not(HasSubstr("Loss")));
  summary.matrix.resize(1);
  EXPECT_THAT(summary_of(summary), Not(HasSubstr("Loss")));
}

// The last of the four clients never trained: the means above without it, and its own scores.
TEST(PrintSummary, GivesHeldOutClientsLinesOfTheirOwn) {
  RunSummary summary = measured_run();
  summary.held_out_clients = 1;
  summary.adapted = {{5, {0.7, 0.8, 0.9, 0.95}}};
  summary.ranks = {{"query", "total", {8, 8, 7}, {8, 8, 8}, {1.5, 2.5, 2}}};
  const std::string text = summary_of(summary);
  const auto mean = [&](const std::string& title) { return cells(text, title)[0]; };
  EXPECT_THAT(text, HasSubstr("accuracy over clients that train, %"));
  EXPECT_EQ(mean("majority class"), "50.0");
  EXPECT_EQ(mean("common"), "70.0");
  EXPECT_EQ(mean("personal "), "76.7");
  EXPECT_EQ(mean("adapted by 5 local steps"), "80.0");
  EXPECT_EQ(mean("gain of personal over common"), "6.7");
  EXPECT_EQ(mean("held out: majority class"), "70.0");
  EXPECT_EQ(mean("held out: common"), "90.0");
  EXPECT_EQ(mean("held out: personal"), "90.0");
  EXPECT_EQ(mean("held out: adapted by 5 local steps"), "95.0");
  EXPECT_THAT(text, AllOf(HasSubstr("personal below common: 1 of 3 clients"),
                          HasSubstr("of client and total also over clients that train\n")));
  EXPECT_THAT(summary_of(measured_run()), Not(HasSubstr("held out")));
}

TEST(PrintSummary, TellsOneModelOnce) {
  RunSummary summary = measured_run();
  summary.personal_accuracy = summary.common_accuracy;
  summary.common_loss = {1, 2, 3, 4};
  summary.personal_loss = {1, 2, 3, 5};
  EXPECT_THAT(summary_of(summary), Not(HasSubstr("common = personal")));
  summary.personal_loss = summary.common_loss;
  const std::string text = summary_of(summary);
  EXPECT_EQ(cells(text, "common = personal").size(), 6u);
  EXPECT_THAT(text, AllOf(Not(HasSubstr("\n  personal")), Not(HasSubstr("gain of"))));
}

TEST(PrintSummary, SaysWhereNothingWasAdapted) {
  RunSummary summary = measured_run();
  summary.local_steps = 3;
  EXPECT_THAT(summary_of(summary),
              HasSubstr("\n  not evaluated after local adaptation (--adaptation-steps 3 would)\n"));
  summary.adapted = {{5, {0.9, 0.9, 0.9, 0.8}}};
  EXPECT_THAT(summary_of(summary), Not(HasSubstr("--adaptation-steps")));
  EXPECT_THAT(summary_of({}), Not(HasSubstr("--adaptation-steps")));
}

TEST(PrintSummary, LeavesOutWhatWasNotMeasured) {
  RunSummary summary = measured_run();
  summary.common_accuracy = {nan, nan, nan, nan};  // the local method has no common model
  const std::string text = summary_of(summary);
  EXPECT_THAT(text, HasSubstr("  personal"));
  for (const char* absent : {"common", "gain", "ranks", "phase", "Files", "Targets", "nan"}) {
    EXPECT_THAT(text, Not(HasSubstr(absent))) << absent;
  }
  EXPECT_THAT(summary_of({}), Not(HasSubstr("accuracy")));
}

TEST(PrintSummary, SaysThatAStoppedRunCanGoOn) {
  RunSummary summary = measured_run();
  summary.rounds_done = 5;
  EXPECT_THAT(summary_of(summary), HasSubstr("stopped after 5 of 12 rounds; --resume goes on"));
}

TEST(PrintSummary, ShowsAdaptationRanksPhasesAndFiles) {
  RunSummary summary = measured_run();
  summary.adapted = {{5, {0.9, 0.9, nan, 0.8}}, {10, {1, 1, 1, 1}}};
  summary.ranks = {{"query", "common", {8, 8}, {8, 8}, {1.5, 2.5}},
                   {"query", "client", {2, 1, 2, 2}, {2, 2, 2, 2}, {1.0, 1.1, 1.2, 1.3}},
                   {"value", "total", {nan, nan}, {nan, nan}, {nan, nan}}};
  summary.phases = {{"train", 75}, {"move", 0}, {"all_reduce", 25}};
  summary.files = {{"metrics", "results/run/results.h5"}};
  const std::string text = summary_of(summary);
  EXPECT_EQ(cells(text, "adapted by 5 local steps")[0], "86.7");
  EXPECT_EQ(cells(text, "adapted by 10 local steps")[0], "100.0");
  EXPECT_EQ(trim(join(cells(text, "query   common"), " ")), "8.0 (8 to 8) 8.0 (8 to 8) 2.0 (1.5 to 2.5)");
  EXPECT_EQ(trim(join(cells(text, "query   client"), " ")), "1.8 (1 to 2) 2.0 (2 to 2) 1.1 (1.0 to 1.3)");
  EXPECT_EQ(cells(text, "train"), (std::vector<std::string>{"75.0%", "1", "min", "15", "s"}));
  EXPECT_EQ(cells(text, "all_reduce")[0], "25.0%");
  EXPECT_THAT(text,
              AllOf(HasSubstr("results/run/results.h5"), Not(HasSubstr("move")), Not(HasSubstr("value"))));
}

TEST(PrintSummary, ShowsTheMatrixProblemByClient) {
  RunSummary summary;
  summary.algorithm = "pf2lora";
  summary.matrix = {{0, 1.5e-9, 0.25, 3, 3, 3}, {1, 2e-8, 0.3, 5, 5, 5}, {2, 0.5, 0.5, 4, 4, 3, true}};
  const std::string text = summary_of(summary);
  EXPECT_EQ(cells(text, "0 "), (std::vector<std::string>{"1.5e-09", "0.25", "3", "3", "3"}));
  EXPECT_EQ(cells(text, "1 "), (std::vector<std::string>{"2e-08", "0.3", "5", "5", "5"}));
  EXPECT_EQ(cells(text, "2, held out "), (std::vector<std::string>{"0.5", "0.5", "4", "4", "3"}));
}

RunPlan plan_with_idle_ranks() {
  RunPlan plan;
  plan.algorithm = "pf2lora";
  plan.problem = "transformer";
  plan.partition = "dirichlet";
  plan.output = "results/run";
  plan.rounds = 12;
  plan.clients = 8;
  plan.held_out_clients = 2;
  plan.clients_per_round = 6;
  plan.lockstep = 2;
  plan.ranks = 5;
  plan.threads = 1;
  plan.groups_by_rank = {1, 0, 1, 1, 0};
  plan.work_by_rank = {20, 0, 10, 10, 0};
  plan.frozen_parameters = 22713216;
  plan.common_parameters = 294912;
  plan.client_parameters = 73728;
  plan.bytes_up = plan.bytes_down = 294912 * 4;
  plan.bytes_all_reduce = 294912 * 24;
  plan.memory = {{"model", int64_t{90} << 20}, {"prefix cache", int64_t{38} << 20}};
  plan.figures.clients = {{100, 0, 50, 3, 0.5, 0.8, false},
                          {1300, 0, 51, 2, 0.25, 0.9, false},
                          {200, 0, 52, 4, 1.386, 0.25, false},
                          {201, 0, 40, 4, 1.25, 0.5, false}};
  plan.figures.mean_label_distance = 0.4321;
  return plan;
}

TEST(PrintPlan, PlacesGroupsOnRanks) {
  const std::string text = plan_text(plan_with_idle_ranks());
  EXPECT_THAT(text, HasSubstr("3 groups of up to 2 clients on 5 ranks"));
  EXPECT_EQ(cells(text, "0 "), (std::vector<std::string>{"1", "50.0%"}));
}

TEST(PrintPlan, NamesTheRoundsThatAreToCome) {
  RunPlan plan = plan_with_idle_ranks();
  EXPECT_THAT(plan_text(plan), HasSubstr("pf2lora on the transformer problem: rounds 1 to 12, 8 clients"));
  plan.first_round = 12;
  EXPECT_THAT(plan_text(plan), HasSubstr("rounds 12 to 12,"));
  plan.first_round = 13;
  EXPECT_THAT(plan_text(plan), HasSubstr("all 12 rounds done,"));
  plan.rounds = 0;
  plan.first_round = 1;
  EXPECT_THAT(plan_text(plan), HasSubstr("no rounds,"));
}

TEST(PrintPlan, GivesSizesTrafficMemoryAndExamples) {
  const std::string text = plan_text(plan_with_idle_ranks());
  EXPECT_THAT(text, HasSubstr("8 clients (2 held out), 6 a round"));
  EXPECT_EQ(cells(text, "common, trained"), std::vector<std::string>{"294,912"});
  EXPECT_EQ(cells(text, "of each client, trained"), std::vector<std::string>{"73,728"});
  EXPECT_EQ(cells(text, "up, each client"), (std::vector<std::string>{"1.1", "MiB"}));  // 1.125 MiB
  EXPECT_EQ(cells(text, "together"), (std::vector<std::string>{"128.0", "MiB"}));
}

TEST(PrintPlan, ForecastsTheRoundsToComeAndOtherNumbersOfRanks) {
  RunPlan plan = plan_with_idle_ranks();
  EXPECT_THAT(plan_text(plan), Not(HasSubstr("Time")));
  plan.groups_by_rank = {};  // so that the rows of ranks are the forecast's
  plan.forecast = RunForecast{.step_clients = 2,
                              .peak_bytes = int64_t{3} << 20,
                              .step = {2, 1.5},
                              .train = {70, 50},
                              .evaluate = {30, 20},
                              .answers = 90,
                              .all_reduce = 0.0012,
                              .evaluations = 6,
                              .answer_rounds = 2,
                              .rounds = 720,
                              .by_ranks = {{1, 50, 1, 1000}, {2, 30, 0.8333, 720}}};
  const std::string text = plan_text(plan);
  using Cells = std::vector<std::string>;
  EXPECT_EQ(cells(text, "one local step of 2 clients, on the slowest rank"), (Cells{"2.0", "s", "1.5", "s"}));
  EXPECT_EQ(cells(text, "all-reduce of a round"), (Cells{"1.20", "ms"}));
  EXPECT_EQ(cells(text, "one evaluation of all clients"), (Cells{"30.0", "s", "20.0", "s"}));
  EXPECT_EQ(cells(text, "answers of all clients, in 2 rounds"), (Cells{"1", "min", "30", "s"}));
  EXPECT_EQ(cells(text, "rounds 1 to 12, with 6 evaluations"), (Cells{"12", "min", "00", "s"}));
  EXPECT_EQ(cells(text, "1 "), (Cells{"50.0", "s", "16", "min", "40", "s", "100.0%"}));
  EXPECT_THAT(text, HasSubstr("A rank had 3.0 MiB at most in the steps made now"));
  EXPECT_EQ(cells(text, "2 "), (Cells{"30.0", "s", "12", "min", "00", "s", "83.3%"}));
}

TEST(PrintPlan, ShowsWhatClientsHoldAndTheRangeOverThem) {
  RunPlan plan = plan_with_idle_ranks();
  plan.partition = "label-sort";
  plan.groups_by_rank = {};  // so that the first row of digits is a client's
  std::string text = plan_text(plan);
  using Cells = std::vector<std::string>;
  EXPECT_THAT(text, AllOf(HasSubstr("Partition label-sort"), HasSubstr("label entropy, nats"),
                          HasSubstr("mean 0.432")));
  EXPECT_EQ(cells(text, "0 "), (Cells{"100", "50", "3", "0.50", "80.0"}));
  EXPECT_EQ(cells(text, "1 "), (Cells{"1,300", "51", "2", "0.25", "90.0"}));
  EXPECT_EQ(cells(text, "min "), (Cells{"100", "40", "2", "0.25", "25.0"}));
  EXPECT_EQ(cells(text, "median "), (Cells{"200.5", "50.5", "3.5", "0.88", "65.0"}));  // of an even number
  EXPECT_EQ(cells(text, "max "), (Cells{"1,300", "52", "4", "1.39", "90.0"}));
  EXPECT_THAT(text, AllOf(Not(HasSubstr("validation")), Not(HasSubstr("permuted")), Not(HasSubstr("..."))));

  plan.figures.clients[2].validation = 7;
  plan.figures.clients[1].permuted = true;
  text = plan_text(plan);
  EXPECT_EQ(cells(text, "2 "), (Cells{"200", "7", "52", "4", "1.39", "25.0"}));
  EXPECT_EQ(cells(text, "1 "), (Cells{"1,300", "0", "51", "2", "0.25", "90.0", "permuted"}));

  plan.figures.clients.resize(1000, {5, 0, 5, 1, 0, 1, false});
  text = plan_text(plan);
  EXPECT_EQ(cells(text, "19 "), (Cells{"5", "0", "5", "1", "0.00", "100.0"}));
  EXPECT_THAT(text, AllOf(HasSubstr("  ...\n"), Not(HasSubstr("\n  20 "))));
  EXPECT_EQ(cells(text, "median "), (Cells{"5", "0", "5", "1", "0.00", "100.0"}));

  plan.figures.clients[1].permuted = false;
  plan.classified = false;  // what partitions go by, and no labels
  plan.client_names = {"fast food", "twenty-three letters of\u00e9\u00e9"};
  plan.partition = "field";
  text = plan_text(plan);
  EXPECT_THAT(text, AllOf(HasSubstr("examples of a client\n"), HasSubstr("largest group, %"),
                          HasSubstr("of a client's groups"), Not(HasSubstr("label"))));
  EXPECT_THAT(text, AllOf(HasSubstr("\n  0 fast food "), HasSubstr("\n  1 twenty-three letters of... ")));
  plan.figures.clients.assign(2, {5, 0, 5, 1, 0, 1, false});
  plan.figures.mean_label_distance = 0;
  text = plan_text(plan);
  EXPECT_THAT(text, AllOf(Not(HasSubstr("largest group")), Not(HasSubstr("Jensen"))));
  EXPECT_EQ(cells(text, "0 fast food "), (Cells{"5", "5"}));

  plan.figures.clients.clear();  // the matrix problem
  EXPECT_THAT(plan_text(plan), Not(HasSubstr("Partition")));
}

}  // namespace
}  // namespace pf2lora
