// Spans against a search through all of them, and the columns that clients' answers become.
#include "simulation/answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace pf2lora {
namespace {

using testing::ElementsAre;

TEST(BestSpan, IsTheBestOfAllInTheContextThatAreShortEnough) {
  std::mt19937_64 random(7);
  for (int trial = 0; trial < 200; ++trial) {
    const int64_t tokens = 2 + int64_t(random() % 20), first = 1 + int64_t(random() % (tokens - 1)),
                  last = first + int64_t(random() % (tokens - first)), most = 1 + int64_t(random() % 6);
    std::vector<double> start, end;
    for (int64_t t = 0; t < tokens; ++t) {
      start.push_back(std::normal_distribution<double>()(random));
      end.push_back(std::normal_distribution<double>()(random));
    }
    SpanAnswer expected;
    for (int64_t i = 0; i < tokens; ++i)
      for (int64_t j = 0; j < tokens; ++j) {
        if (i < first || j > last || j < i || j - i + 1 > most) continue;
        const double score = start[size_t(i)] + end[size_t(j)];
        if (expected.first < 0 || score > expected.score)
          expected = {.first = double(i), .last = double(j), .score = score};
      }
    const SpanAnswer found = best_span(start, end, first, last, most);
    EXPECT_EQ(found.first, expected.first);
    EXPECT_EQ(found.last, expected.last);
    EXPECT_EQ(found.score, expected.score);
    EXPECT_EQ(found.none, start[0] + end[0]);
  }
}

TEST(BestSpan, IsTheFirstOfEqualOnes) {
  const std::vector<double> equal(6, 1.0);
  const SpanAnswer found = best_span(equal, equal, 2, 5, 3);
  EXPECT_EQ(found.first, 2);
  EXPECT_EQ(found.last, 2);
}

TEST(AnswerColumns, StandClientAfterClient) {
  AnswerShape shape{.task = Task::generation, .common = true, .rules = {.most_tokens = 2}};
  shape.items = {{4}, {}, {1, 4}};
  EXPECT_EQ(shape.questions(), 3);
  // Of client 2: two questions from the common model, then from its own.
  const auto columns = answer_columns(shape, {{2, 1, 2, 3, 4, 5, 6, 7, 8}, {1}, {0, 10, 20, 30, -1}});
  EXPECT_THAT(columns.at("common_answer_tokens"), ElementsAre(10, 20, 1, 2, 3, 4));
  EXPECT_THAT(columns.at("personal_answer_tokens"), ElementsAre(30, -1, 5, 6, 7, 8));
  EXPECT_EQ(columns.size(), 2);
}

TEST(AnswerColumns, OfSpansAreAColumnANumber) {
  AnswerShape shape{.task = Task::span};
  shape.items = {{0, 3}, {0}};
  const auto columns = answer_columns(shape, {{1, 9, 3, 4, 0.5, -1}, {0, 7, 1, 2, 2.5, 1, 8, 5, 5, 0.25, 3}});
  EXPECT_THAT(columns.at("personal_answer_row"), ElementsAre(7, 8, 9));
  EXPECT_THAT(columns.at("personal_answer_first"), ElementsAre(1, 5, 3));
  EXPECT_THAT(columns.at("personal_answer_last"), ElementsAre(2, 5, 4));
  EXPECT_THAT(columns.at("personal_answer_score"), ElementsAre(2.5, 0.25, 0.5));
  EXPECT_THAT(columns.at("personal_answer_none"), ElementsAre(1, 3, -1));
  EXPECT_FALSE(columns.contains("common_answer_row"));
}

}  // namespace
}  // namespace pf2lora
