#include "io/output_directory.h"

#include <array>

#include "core/error.h"
#include "temporary_directory.h"

namespace pf2lora {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class OutputDirectoryTest : public ::testing::Test {
 protected:
  std::string path() const { return directory_ / "results/run"; }
  std::string refusal(OutputMode mode) const {
    return message_of<OptionError>([&] { OutputDirectory(path(), mode).create(); });
  }
  void make_run() const {
    fs::create_directories(path() + "/segments");
    for (const char* name : {"results.h5", "adapters.h5", "checkpoint.h5", "options.ini",
                             "results.h5.partial", "segments/000005.h5", "segments/000010.h5.partial"}) {
      write_file(path() + "/" + name, "old");
    }
  }

  TemporaryDirectory directory_;
};

TEST_F(OutputDirectoryTest, CheckingCreatesNothing) {
  const OutputDirectory directory(path(), OutputMode::fresh);
  EXPECT_TRUE(fs::is_empty(directory_.path()));
}

TEST_F(OutputDirectoryTest, CreatesTheDirectoryWithItsParentsAndALock) {
  {
    OutputDirectory directory(path() + "/", OutputMode::fresh);
    directory.create();
    EXPECT_TRUE(directory.locked());
    EXPECT_EQ(directory.checkpoint(), path() + "/checkpoint.h5");
    EXPECT_THAT(read_file(path() + "/lock"), HasSubstr("process " + std::to_string(::getpid())));
  }
  EXPECT_TRUE(fs::is_directory(path()));
  EXPECT_FALSE(fs::exists(path() + "/lock"));
}

TEST_F(OutputDirectoryTest, AnExistingOneNeedsResumeOrOverwrite) {
  fs::create_directories(path());
  write_file(path() + "/results.h5", "old");
  EXPECT_THAT(refusal(OutputMode::fresh), AllOf(HasSubstr(path()), HasSubstr("--resume"),
                                                HasSubstr("--overwrite"), HasSubstr("--output")));
}

TEST_F(OutputDirectoryTest, HoldsACompleteRunWhereResultsStandWithoutSegments) {
  make_run();
  const OutputDirectory directory(path(), OutputMode::resume);
  EXPECT_FALSE(directory.holds_complete_run());
  fs::remove(path() + "/segments/000005.h5");
  EXPECT_TRUE(directory.holds_complete_run());
  fs::remove_all(path() + "/segments");
  EXPECT_TRUE(directory.holds_complete_run());
  fs::remove(path() + "/results.h5");
  EXPECT_FALSE(directory.holds_complete_run());
}

TEST_F(OutputDirectoryTest, WhatARunLeftThatSavedNothingIsTakenAgain) {
  fs::create_directories(path());
  OutputDirectory(path(), OutputMode::fresh).create();
  for (const char* name : {"options.ini", "options.ini.partial", "lock"})
    write_file(path() + "/" + name, "old");
  OutputDirectory(path() + "/", OutputMode::fresh).create();
  EXPECT_EQ(read_file(path() + "/options.ini"), "old") << "it is the recorder's to replace";
  for (const std::string name : {"segments", "checkpoint.h5", "results.h5.partial", "mine.txt"}) {
    write_file(path() + "/" + name, "");
    EXPECT_THAT(refusal(OutputMode::fresh), HasSubstr("exists")) << name;
    fs::remove(path() + "/" + name);
  }
}

TEST_F(OutputDirectoryTest, WhatAFreshRunSavedSinceTheCheckIsNotTaken) {
  fs::create_directories(path());
  OutputDirectory directory(path(), OutputMode::fresh);
  write_file(path() + "/checkpoint.h5", "new");
  EXPECT_THAT(message_of<OptionError>([&] { directory.create(); }), HasSubstr("exists"));
}

TEST_F(OutputDirectoryTest, ResumeNeedsACheckpoint) {
  EXPECT_THAT(refusal(OutputMode::resume), AllOf(HasSubstr(path()), HasSubstr("does not exist")));
  EXPECT_FALSE(fs::exists(path()));
  fs::create_directories(path());
  EXPECT_THAT(refusal(OutputMode::resume), HasSubstr("not the directory of a run"));
  write_file(path() + "/options.ini", "rounds = 3\n");
  EXPECT_THAT(refusal(OutputMode::resume), AllOf(HasSubstr("no checkpoint"), HasSubstr("--overwrite")));
  make_run();
  OutputDirectory(path(), OutputMode::resume).create();
  EXPECT_EQ(read_file(path() + "/results.h5"), "old");
}

TEST_F(OutputDirectoryTest, ResumeAndOverwriteExcludeEachOther) {
  EXPECT_THROW(output_mode(true, true), OptionError);
  EXPECT_EQ(output_mode(true, false), OutputMode::resume);
  EXPECT_EQ(output_mode(false, true), OutputMode::overwrite);
  EXPECT_EQ(output_mode(false, false), OutputMode::fresh);
}

TEST_F(OutputDirectoryTest, OverwriteRemovesItsOwnFilesAlone) {
  make_run();
  write_file(path() + "/notes.txt", "mine");
  write_file(path() + "/segments/notes.h5", "mine");
  {
    OutputDirectory directory(path(), OutputMode::overwrite);
    EXPECT_TRUE(fs::exists(path() + "/results.h5")) << "not before create()";
    directory.create();
    std::vector<std::string> left;
    for (const auto& entry : fs::recursive_directory_iterator(path())) {
      left.push_back(fs::relative(entry.path(), path()).string());
    }
    EXPECT_THAT(left, ::testing::UnorderedElementsAre("lock", "notes.txt", "segments", "segments/notes.h5"));
  }
  fs::remove(path() + "/segments/notes.h5");
  make_run();
  OutputDirectory(path(), OutputMode::overwrite).create();
  EXPECT_FALSE(fs::exists(path() + "/segments"));
}

TEST_F(OutputDirectoryTest, PlacesThatCannotBeWrittenAreRefused) {
  write_file(directory_ / "results", "a file");
  EXPECT_THAT(refusal(OutputMode::fresh), HasSubstr("is not a directory"));
  EXPECT_THAT(
      message_of<OptionError>([&] { OutputDirectory(directory_ / "results", OutputMode::overwrite); }),
      HasSubstr("exists and is not a directory"));
  EXPECT_THAT(message_of<OptionError>([&] { OutputDirectory("", OutputMode::fresh); }),
              HasSubstr("--output"));
  fs::remove(directory_ / "results");
  fs::create_directory(directory_ / "results");
  fs::permissions(directory_ / "results", fs::perms::owner_read | fs::perms::owner_exec);
  if (::access((directory_ / "results").c_str(), W_OK) != 0) {  // root may write anywhere
    EXPECT_THAT(refusal(OutputMode::fresh), AllOf(HasSubstr("cannot be written"), HasSubstr("--output")));
  }
  // Not even root may write there.
  EXPECT_THAT(message_of<OptionError>([] { OutputDirectory("/proc/run", OutputMode::fresh).create(); }),
              AllOf(HasSubstr("/proc/run"), HasSubstr("--output")));
}

TEST_F(OutputDirectoryTest, ASecondRunIsToldWhoHoldsTheLockAndRemovesNothing) {
  make_run();
  std::array<int, 2> ready{}, done{};
  ASSERT_EQ(::pipe(ready.data()), 0);
  ASSERT_EQ(::pipe(done.data()), 0);
  const pid_t child = in_child([&] {
    OutputDirectory directory(path(), OutputMode::resume);
    directory.create();
    char byte = 'x';
    if (::write(ready[1], &byte, 1) != 1 || ::read(done[0], &byte, 1) != 1) throw std::runtime_error("pipe");
  });
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  for (const OutputMode mode : {OutputMode::resume, OutputMode::overwrite}) {
    EXPECT_THAT(message_of<OptionError>([&] { OutputDirectory(path(), mode); }),
                AllOf(HasSubstr("in use by another run"), HasSubstr("process " + std::to_string(child))));
  }
  EXPECT_EQ(read_file(path() + "/results.h5"), "old");
  ASSERT_EQ(::write(done[1], &byte, 1), 1);
  EXPECT_EQ(end_of(child), 0);
  OutputDirectory(path(), OutputMode::resume).create();
}

TEST_F(OutputDirectoryTest, TheLockIsTakenAtCreationToo) {
  make_run();
  OutputDirectory first(path(), OutputMode::resume), second(path(), OutputMode::overwrite);
  first.create();
  EXPECT_THAT(message_of<OptionError>([&] { second.create(); }), HasSubstr("in use by another run"));
  EXPECT_EQ(read_file(path() + "/results.h5"), "old");
}

TEST_F(OutputDirectoryTest, OfTwoFreshRunsOneWins) {
  OutputDirectory first(path(), OutputMode::fresh), second(path(), OutputMode::fresh);
  first.create();
  EXPECT_THROW(second.create(), OptionError);
}

TEST_F(OutputDirectoryTest, AKilledRunLeavesNoLock) {
  make_run();
  const pid_t child = in_child([&] {
    OutputDirectory directory(path(), OutputMode::resume);
    directory.create();
    for (;;) ::pause();
  });
  while (read_file(path() + "/lock").empty()) ::usleep(1000);
  end_of(child, true);
  EXPECT_TRUE(fs::exists(path() + "/lock"));
  OutputDirectory directory(path(), OutputMode::resume);
  directory.create();
  EXPECT_THAT(read_file(path() + "/lock"), HasSubstr("process " + std::to_string(::getpid())));
}

}  // namespace
}  // namespace pf2lora
