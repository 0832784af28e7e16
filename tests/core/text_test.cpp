#include "core/text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace pf2lora {
namespace {

using Names = std::vector<std::string>;

TEST(EditDistance, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);  // the textbook pair
  EXPECT_EQ(edit_distance("rnak", "rank"), 1u);
  EXPECT_EQ(edit_distance("ca", "abc"), 3u);  // 2 would need to edit a swapped pair again
}

TEST(EditDistance, IsSymmetricAndZeroOnlyForEqualNames) {
  std::mt19937 random(7);
  const auto word = [&] {
    std::string text(random() % 7, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 3);
    return text;
  };
  for (int trial = 0; trial < 2000; ++trial) {
    const std::string a = word(), b = word();
    EXPECT_EQ(edit_distance(a, b), edit_distance(b, a));
    EXPECT_EQ(edit_distance(a, b) == 0, a == b);
    EXPECT_LE(edit_distance(a, b), std::max(a.size(), b.size()));
  }
}

TEST(NearestName, ForgivesTypingErrorsCaseAndUnderscores) {
  const Names names = {"rounds", "rank", "client-rank", "learning-rate", "client-learning-rate"};
  EXPECT_EQ(nearest_name("ronds", names), "rounds");
  EXPECT_EQ(nearest_name("rnds", names), "rounds");
  EXPECT_EQ(nearest_name("Rnak", names), "rank");
  EXPECT_EQ(nearest_name("client_learning_rate", names), "client-learning-rate");
  EXPECT_EQ(nearest_name("lerning-rte", names), "learning-rate");
}

TEST(NearestName, CompletesOnlyAnUnambiguousBeginning) {
  const Names names = {"checkpoint-every", "client-rank", "client-learning-rate"};
  EXPECT_EQ(nearest_name("check", names), "checkpoint-every");
  EXPECT_EQ(nearest_name("client-", names), "");
  EXPECT_EQ(nearest_name("ch", names), "");
}

TEST(NearestName, FindsTheNameThatMoreWasWrittenAfter) {
  EXPECT_EQ(nearest_name("local-only", Names{"local", "pf2lora"}), "local");
  EXPECT_EQ(nearest_name("fedlora", Names{"fed", "fedl"}), "");
}

TEST(NearestName, IsSilentWhenNothingIsNear) {
  const Names names = {"rounds", "rank", "iid"};
  EXPECT_EQ(nearest_name("temperature", names), "");
  EXPECT_EQ(nearest_name("xyz", names), "");
  EXPECT_EQ(nearest_name("rank", Names{}), "");
  EXPECT_EQ(did_you_mean("xyz", names), "");
  EXPECT_EQ(did_you_mean("rnk", names), "; did you mean 'rank'?");
}

TEST(FormatBytes, ChangesUnitAtPowersOf1024) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes((int64_t{1} << 20) - 1), "1.0 MiB");  // never "1024.0 KiB"
  EXPECT_EQ(format_bytes(int64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(format_bytes(std::numeric_limits<int64_t>::max()), "8192.0 PiB");
}

TEST(FormatDuration, ChoosesTheUnitThatReadsBest) {
  EXPECT_EQ(format_duration(0), "0 s");
  EXPECT_EQ(format_duration(0.0021), "2.10 ms");
  EXPECT_EQ(format_duration(0.0421), "42.1 ms");
  EXPECT_EQ(format_duration(0.7), "700 ms");
  EXPECT_EQ(format_duration(12.34), "12.3 s");
  EXPECT_EQ(format_duration(245), "4 min 05 s");
  EXPECT_EQ(format_duration(3900), "1 h 05 min");
  EXPECT_EQ(format_duration(86400 * 3 + 3600 * 4), "3 d 04 h");
  EXPECT_EQ(format_duration(-1), "-");
  EXPECT_EQ(format_duration(std::nan("")), "-");
}

TEST(FormatDuration, NeverShowsSixtyOfAUnit) {
  EXPECT_EQ(format_duration(0.99996), "1.0 s");
  EXPECT_EQ(format_duration(59.96), "1 min 00 s");
  EXPECT_EQ(format_duration(3599.7), "1 h 00 min");
  EXPECT_EQ(format_duration(86399), "1 d 00 h");
}

TEST(FormatNumbers, GroupDigitsAndMarkMissingValues) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(294912), "294,912");
  EXPECT_EQ(format_count(-1234567), "-1,234,567");
  EXPECT_EQ(format_count(-123), "-123");
  EXPECT_EQ(format_percent(0.8524), "85.2%");
  EXPECT_EQ(format_percent(std::nan("")), "-");
  EXPECT_EQ(format_fixed(2.345, 1), "2.3");
  EXPECT_EQ(format_significant(1.23456e-9, 3), "1.23e-09");
}

TEST(FormatExact, ReadsBackAsTheSameBits) {
  std::mt19937_64 random(11);
  for (int trial = 0; trial < 10000; ++trial) {
    const double value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(std::strtod(format_exact(value).c_str(), nullptr), value);
  }
  EXPECT_EQ(format_exact(0.1), "0.1");
}

TEST(Split, KeepsEmptyParts) {
  EXPECT_EQ(split("a,,b", ','), (Names{"a", "", "b"}));
  EXPECT_EQ(split("", ','), (Names{""}));
  EXPECT_EQ(split(",", ','), (Names{"", ""}));
  EXPECT_EQ(join(split("x;y;", ';'), ";"), "x;y;");
  EXPECT_EQ(trim(" \t x y\r\n"), "x y");
  EXPECT_EQ(trim("  "), "");
}

TEST(ShortenedList, EndsInDotsOnlyWhereMoreIsLeft) {
  EXPECT_EQ(shortened_list(std::vector<int64_t>{4, 2, 9}, 3), "4, 2, 9");
  EXPECT_EQ(shortened_list(std::vector<int64_t>{4, 2, 9, 1, 1}, 3), "4, 2, 9, ...");
  EXPECT_EQ(shortened_list(std::vector<std::string>{"a", "b"}, 1), "a, ...");
  EXPECT_EQ(shortened_list(std::vector<std::string>{}), "");
}

TEST(Wrap, KeepsWordsWholeAndLinesWithinTheWidth) {
  EXPECT_EQ(wrap("one two three", 7), (Names{"one two", "three"}));
  EXPECT_EQ(wrap("incomprehensible it is", 5), (Names{"incomprehensible", "it is"}));
  EXPECT_EQ(wrap("  ", 5), Names{});
}

TEST(AlignColumns, PutsTextLeftAndNumbersRight) {
  EXPECT_EQ(align_columns({{"name", "mean"}, {"a", "12.5"}, {"longer", "7"}}),
            "  name    mean\n  a       12.5\n  longer     7\n");
  EXPECT_EQ(align_columns({{"a", "b"}, {"cc", ""}}, 2), "  a   b\n  cc\n");
}

}  // namespace
}  // namespace pf2lora
