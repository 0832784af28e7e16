// Which options a resumed run may change.
#include "simulation/resume_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::string kBefore =
    "# a comment = nothing\nrounds = 10\nrank = 8\noutput = a\nthreads = 1\nmodel = x\nprefix-cache = 1\n";

Texts texts(const std::string& config, const std::string& digest = "abc") {
  return checkpoint_texts(config, {{"data_sha256", digest}});
}

std::string replaced(const std::string& from, const std::string& to) {
  std::string text = kBefore;
  text.replace(text.find(from), from.size(), to);
  return text;
}

template <class E>
std::string refusal(const Texts& now, const Options& options = {}, bool rounds_matter = false) {
  try {
    check_resumed(texts(kBefore), now, options, rounds_matter);
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

TEST(ResumeCheck, TheSameOptionsPass) {
  EXPECT_NO_THROW(check_resumed(texts(kBefore), texts(kBefore), {}, false));
}

TEST(ResumeCheck, WhereHowLongAndHowFastMayChange) {
  for (const auto& [from, to] : {std::pair{"output = a", "output = b"},
                                 {"threads = 1", "threads = 4"},
                                 {"model = x", "model = y"},
                                 {"prefix-cache = 1", "prefix-cache = 0"},
                                 {"rounds = 10", "rounds = 20"},
                                 {"rounds = 10\n", "rounds = 10\nresume = true\nmax-hours = 2\n"}}) {
    EXPECT_NO_THROW(check_resumed(texts(kBefore), texts(replaced(from, to)), {}, false)) << to;
  }
}

TEST(ResumeCheck, AChangedOptionIsNamedWithBothValues) {
  EXPECT_THAT(refusal<OptionError>(texts(replaced("rank = 8", "rank = 4"))),
              AllOf(HasSubstr("--rank is '4'"), HasSubstr("'8'")));
  EXPECT_THAT(refusal<OptionError>(texts(kBefore + "clip = 1\n")), HasSubstr("--clip is '1'"));
}

TEST(ResumeCheck, EveryDigestOfEitherSideMustBeThatOfTheOther) {
  EXPECT_THAT(refusal<InputError>(texts(kBefore, "def")),
              HasSubstr("data_sha256 is def, but abc in the run that wrote"));
  Texts with_adapter = texts(kBefore);
  with_adapter.emplace_back("start_adapter_sha256", "123");
  EXPECT_THAT(refusal<InputError>(with_adapter), HasSubstr("start_adapter_sha256 is 123, but not there in"));
  try {
    check_resumed(with_adapter, texts(kBefore), {}, false);
    FAIL() << "an adapter to start from may not go";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("start_adapter_sha256 is not there, but 123 in"));
  }
}

TEST(ResumeCheck, RoundsThatMatterToTheMethodMayNotChange) {
  const Texts more = texts(replaced("rounds = 10", "rounds = 20"));
  EXPECT_EQ(refusal<OptionError>(more), "");
  EXPECT_THAT(refusal<OptionError>(more, {}, true), HasSubstr("--rounds is '20' (was '10')"));
  EXPECT_NO_THROW(check_resumed(texts(kBefore), texts(kBefore), {}, true));
}

TEST(ResumeCheck, AllChangedOptionsStandInOneMessage) {
  std::string now = replaced("rank = 8", "rank = 4") + "seed = 7\n";
  now.replace(now.find("threads = 1"), 11, "threads = 2");  // may change
  EXPECT_THAT(refusal<OptionError>(texts(now)),
              AllOf(HasSubstr("--rank is '4' (was '8'), --seed is '7' (was not there), which may not change"),
                    Not(HasSubstr("threads"))));
}

TEST(ResumeCheck, RoundsAreFixedWhereRatesDependOnThem) {
  Options options;
  options.schedule = "cosine";
  EXPECT_THAT(refusal<OptionError>(texts(replaced("rounds = 10", "rounds = 20")), options),
              HasSubstr("--rounds is '20'"));
  options = {};
  options.warmup = 0.1;
  EXPECT_THAT(refusal<OptionError>(texts(replaced("rounds = 10", "rounds = 20")), options),
              HasSubstr("--rounds is '20'"));
}

TEST(ResumeCheck, OtherDataIsRefused) {
  EXPECT_THAT(refusal<InputError>(texts(kBefore, "def")), AllOf(HasSubstr("data_sha256"), HasSubstr("abc")));
}

}  // namespace
}  // namespace pf2lora
