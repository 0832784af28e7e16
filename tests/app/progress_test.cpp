#include "app/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <sstream>
#include <string>
#include <vector>

#include "core/text.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Form = ProgressStyle::Form;

RunPlan plan_of(int64_t rounds, int64_t first_round = 1) {
  RunPlan plan;
  plan.algorithm = "pf2lora";
  plan.rounds = rounds;
  plan.first_round = first_round;
  plan.clients = plan.clients_per_round = 8;
  plan.ranks = 4;
  plan.threads = 2;
  return plan;
}

RoundReport report_of(int64_t round, bool evaluated) {
  RoundReport report;
  report.round = round;
  report.train_loss = 1.25;
  report.evaluated = evaluated;
  report.common_accuracy = 0.661;
  report.personal_accuracy = 0.852;
  report.seconds = 2.31;
  report.seconds_left = 700;
  return report;
}

// The numbers of the rounds that lines were printed for.
std::vector<int> rounds_in(const std::string& text) {
  std::vector<int> rounds;
  for (const std::string& line : split(text, '\n')) {
    if (line.starts_with("round ")) rounds.push_back(std::stoi(line.substr(6)));
  }
  return rounds;
}

TEST(Lines, AreSparseButKeepFirstEvaluatedAndLast) {
  std::ostringstream out;
  double now = 0;
  const auto lines = make_progress({.form = Form::lines}, out, [&] { return now; });
  lines->begin(plan_of(100));
  for (int round = 1; round <= 100; ++round) {
    now = 2.0 * round;  // two seconds a round, so every fifth is ten seconds after the one before
    lines->end_round(report_of(round, round % 50 == 8));
  }
  lines->end({});
  EXPECT_EQ(rounds_in(out.str()), (std::vector<int>{1,  6,  8,  13, 18, 23, 28, 33, 38, 43, 48,
                                                    53, 58, 63, 68, 73, 78, 83, 88, 93, 98, 100}));
}

TEST(Lines, EvaluatedRoundsComeAtMostOnceASecond) {
  std::ostringstream out;
  double now = 0;
  const auto lines = make_progress({.form = Form::lines}, out, [&] { return now; });
  lines->begin(plan_of(1000));
  for (int round = 1; round <= 1000; ++round) {
    now = 0.01 * round;
    lines->end_round(report_of(round, true));
  }
  EXPECT_LE(rounds_in(out.str()).size(), 12u);
  EXPECT_EQ(rounds_in(out.str()).front(), 1);
  EXPECT_EQ(rounds_in(out.str()).back(), 1000);
}

TEST(Lines, ARunThatStopsEarlyStillShowsItsLastRound) {
  std::ostringstream out;
  const auto lines = make_progress({.form = Form::lines}, out, [] { return 0.0; });
  lines->begin(plan_of(100, 11));
  for (int round = 11; round <= 17; ++round) lines->end_round(report_of(round, false));
  lines->end({});
  EXPECT_EQ(rounds_in(out.str()), (std::vector<int>{11, 17}));
}

TEST(Lines, SayWhatWasMeasured) {
  std::ostringstream out;
  const auto lines = make_progress({.form = Form::lines}, out, [] { return 0.0; });
  lines->begin(plan_of(300));
  lines->end_round(report_of(1, true));
  EXPECT_THAT(out.str(), HasSubstr("pf2lora, rounds 1 to 300, 8 clients, ranks: 4, threads a rank: 2\n"));
  EXPECT_THAT(out.str(), HasSubstr("round   1/300  loss 1.25  common 66.1%  personal 85.2%  2.3 s a round  "
                                   "11 min 40 s left\n"));
  EXPECT_THAT(out.str(), Not(HasSubstr("\r")));
}

// What a report repeats of an evaluation before its round is no news.
TEST(Lines, ShowAnEvaluationOnce) {
  std::ostringstream out;
  const auto lines = make_progress({.form = Form::lines}, out, [] { return 0.0; });
  lines->begin(plan_of(300));
  lines->end_round(report_of(1, true));
  lines->end_round(report_of(300, false));
  EXPECT_THAT(out.str(), HasSubstr("round 300/300  loss 1.25  2.3 s a round"));
}

TEST(Lines, ShowHeldOutClientsApart) {
  std::ostringstream out;
  const auto lines = make_progress({.form = Form::lines}, out, [] { return 0.0; });
  lines->begin(plan_of(300));
  RoundReport report = report_of(1, true);
  report.adapted_accuracy = 0.9;
  report.held_out_accuracy = 0.75;
  report.held_out_loss = 1.5;
  lines->end_round(report);
  EXPECT_THAT(out.str(), HasSubstr("personal 85.2%  adapted 90.0%  held out 75.0%  2.3 s a round"));
  report.round = 300;
  report.held_out_accuracy.reset();
  lines->end_round(report);
  EXPECT_THAT(out.str(), HasSubstr("adapted 90.0%  held out loss 1.5  2.3 s a round"));
}

TEST(Lines, ShowLossesWhereThereIsNoAccuracy) {
  std::ostringstream out;
  const auto lines = make_progress({.form = Form::lines}, out, [] { return 0.0; });
  lines->begin(plan_of(9));
  RoundReport report;
  report.evaluated = true;
  report.round = 1;
  report.common_loss = 0.25;
  report.personal_loss = 1.5e-9;
  report.seconds = 0.004;
  report.seconds_left = std::numeric_limits<double>::quiet_NaN();
  lines->end_round(report);
  EXPECT_THAT(out.str(), HasSubstr("round 1/9  common loss 0.25  personal loss 1.5e-09  4.00 ms a round\n"));
}

// What a terminal shows in the end: a carriage return goes back, and "\x1b[K" clears the rest of the line.
std::vector<std::string> screen(const std::string& text) {
  std::vector<std::string> lines = {""};
  std::size_t column = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') {
      lines.emplace_back();
      column = 0;
    } else if (text[i] == '\r') {
      column = 0;
    } else if (text.compare(i, 3, "\x1b[K") == 0) {
      lines.back().resize(column);
      i += 2;
    } else {
      if (lines.back().size() <= column) lines.back().resize(column + 1, ' ');
      lines.back()[column++] = text[i];
    }
  }
  return lines;
}

TEST(Bar, StaysInOneLineAndEndsWithALineBreak) {
  std::ostringstream out;
  double now = 0;
  const auto bar = make_progress({.form = Form::bar, .columns = 120}, out, [&] { return now += 1; });
  bar->begin(plan_of(4));
  for (int round = 1; round <= 4; ++round) {
    bar->group_done({.round = round, .done = 1, .total = 2});
    bar->end_round(report_of(round, true));
  }
  bar->end({});
  const auto lines = screen(out.str());
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1],
            "[##############################] 4/4 100%  loss 1.25  common 66.1%  personal 85.2%  2.3 s a "
            "round  11 min "
            "40 s left");
  EXPECT_EQ(lines[2], "");
}

TEST(Bar, CountsGroupsAsPartsOfARound) {
  std::ostringstream out;
  double now = 0;
  const auto bar = make_progress({.form = Form::bar, .columns = 120}, out, [&] { return now += 1; });
  bar->begin(plan_of(4));
  bar->end_round(report_of(1, true));
  EXPECT_THAT(screen(out.str()).back(), HasSubstr("] 1/4 25%"));
  bar->group_done({.round = 2, .done = 1, .total = 2});
  EXPECT_THAT(screen(out.str()).back(), AllOf(StartsWith("[###########"), HasSubstr("] 1/4 37%")));
}

TEST(Bar, NeverFillsTheLastColumnOfANarrowTerminal) {
  for (int64_t columns : {20, 30, 40, 60, 80, 100, 132}) {
    std::ostringstream out;
    double now = 0;
    const auto bar = make_progress({.form = Form::bar, .columns = columns}, out, [&] { return now += 1; });
    bar->begin(plan_of(3000));
    RoundReport report = report_of(2999, true);
    report.adapted_accuracy = 0.9;
    bar->end_round(report);
    EXPECT_LT(screen(out.str()).back().size(), static_cast<std::size_t>(columns));
    EXPECT_THAT(screen(out.str()).back(), HasSubstr("2999/3000 99%"));
    if (columns >= 60) {
      EXPECT_THAT(screen(out.str()).back(), HasSubstr("left"));
    }
  }
}

TEST(Bar, IsDrawnAtMostTenTimesASecond) {
  std::ostringstream out;
  double now = 0;
  const auto bar = make_progress({.form = Form::bar, .columns = 80}, out, [&] { return now; });
  bar->begin(plan_of(10000));
  for (int round = 1; round <= 5000; ++round) {
    now += 0.001;
    bar->end_round(report_of(round, true));
  }
  const std::string text = out.str();
  EXPECT_NEAR(static_cast<double>(std::count(text.begin(), text.end(), '\r')), 50, 2);
}

TEST(Bar, LeavesItsLineForNotesAndWhenARunFails) {
  std::ostringstream out;
  {
    const auto bar = make_progress({.form = Form::bar, .columns = 80}, out, [] { return 0.0; });
    bar->begin(plan_of(10));
    bar->note("3 clients drew from other classes");
  }
  const auto lines = screen(out.str());
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[1], "3 clients drew from other classes");
  EXPECT_THAT(lines[2], HasSubstr("0/10 0%"));
  EXPECT_EQ(lines[3], "");
}

TEST(Off, PrintsNothing) {
  std::ostringstream out;
  const auto off = make_progress({.form = Form::off}, out);
  off->begin(plan_of(10));
  off->note("a note");
  off->end_round(report_of(1, true));
  off->end({});
  EXPECT_EQ(out.str(), "");
}

// The launcher's side is pinned by progress_test.sh, under mpirun itself.
TEST(ChooseProgress, AsksTheDescriptorWhenNoLauncherIsThere) {
  unsetenv("OMPI_COMM_WORLD_RANK");
  int terminal = -1, other_end = -1;
  winsize size{};
  size.ws_col = 132;
  ASSERT_EQ(openpty(&other_end, &terminal, nullptr, nullptr, &size), 0);
  const int null = open("/dev/null", O_WRONLY);
  EXPECT_EQ(choose_progress("auto", terminal).form, Form::bar);
  EXPECT_EQ(choose_progress("auto", terminal).columns, 132);
  EXPECT_EQ(choose_progress("auto", null).form, Form::lines);
  EXPECT_EQ(choose_progress("bar", null).form, Form::bar);
  EXPECT_EQ(choose_progress("bar", null).columns, 80);
  EXPECT_EQ(choose_progress("lines", terminal).form, Form::lines);
  EXPECT_EQ(choose_progress("off", terminal).form, Form::off);
  close(null);
  close(terminal);
  close(other_end);
}

}  // namespace
}  // namespace pf2lora
