#include "io/hdf5_file.h"

#include <sys/resource.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "core/error.h"
#include "io/atomic_file.h"
#include "temporary_directory.h"

namespace pf2lora {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <class T>
class Hdf5Numbers : public ::testing::Test {};
using NumberTypes = ::testing::Types<float, double, int8_t, uint8_t, int32_t, int64_t>;
TYPED_TEST_SUITE(Hdf5Numbers, NumberTypes);

TYPED_TEST(Hdf5Numbers, ExtremeValuesComeBackWithTheirTypeAndShape) {
  const TemporaryDirectory directory;
  using Limits = std::numeric_limits<TypeParam>;
  const std::vector<TypeParam> values = {Limits::lowest(), Limits::max(), Limits::min(), 0, 1, 7};
  for (const Storage storage : {Storage::contiguous, Storage::checked, Storage::compressed}) {
    Hdf5File file = Hdf5File::create(directory / "file.h5");
    file.write<TypeParam>("a/b/values", values, {3, 2}, storage);
    file.close();
    const Hdf5File again = Hdf5File::open(directory / "file.h5");
    EXPECT_EQ(again.shape("a/b/values"), (Shape{3, 2}));
    EXPECT_TRUE(again.holds<TypeParam>("a/b/values"));
    EXPECT_EQ(again.read<TypeParam>("a/b/values"), values);
  }
}

TYPED_TEST(Hdf5Numbers, AnotherStoredTypeIsRefusedRatherThanConverted) {
  const TemporaryDirectory directory;
  Hdf5File file = Hdf5File::create(directory / "file.h5");
  file.write<TypeParam>("values", std::vector<TypeParam>{1, 2});
  int held = 0;
  const auto count = [&](bool holds, const std::function<void()>& read) {
    held += holds ? 1 : 0;
    if (!holds) {
      EXPECT_THAT(message_of<InputError>(read), HasSubstr("not stored as"));
    }
  };
  count(file.holds<float>("values"), [&] { file.read<float>("values"); });
  count(file.holds<double>("values"), [&] { file.read<double>("values"); });
  count(file.holds<int8_t>("values"), [&] { file.read<int8_t>("values"); });
  count(file.holds<uint8_t>("values"), [&] { file.read<uint8_t>("values"); });
  count(file.holds<int32_t>("values"), [&] { file.read<int32_t>("values"); });
  count(file.holds<int64_t>("values"), [&] { file.read<int64_t>("values"); });
  count(file.holds<std::string>("values"), [&] { file.read<std::string>("values"); });
  EXPECT_EQ(held, 1);
}

TEST(Hdf5File, StringsKeepUtf8AndEmptyOnes) {
  const TemporaryDirectory directory;
  const std::vector<std::string> texts = {"noun.Tops", "", "Zoë – 語", std::string(100000, 'x')};
  Hdf5File file = Hdf5File::create(directory / "file.h5");
  file.write<std::string>("texts", texts);
  file.write<std::string>("square", texts, {2, 2});
  file.write<std::string>("one", std::span(texts).subspan(2, 1), {});
  file.close();
  const Hdf5File again = Hdf5File::open(directory / "file.h5");
  EXPECT_EQ(again.read<std::string>("texts"), texts);
  EXPECT_EQ(again.shape("square"), (Shape{2, 2}));
  EXPECT_THAT(again.shape("one"), IsEmpty());
  EXPECT_THAT(again.read<std::string>("one"), ElementsAre("Zoë – 語"));
}

TEST(Hdf5File, AxesWithoutEntriesAreLegal) {
  const TemporaryDirectory directory;
  Hdf5File file = Hdf5File::create(directory / "file.h5");
  file.write<double>("none", {}, {3, 0, 2}, Storage::checked);
  file.write<double>("axis", {}, {0});
  file.write<std::string>("texts", std::vector<std::string>{});
  file.make_scale("axis", "axis");
  file.attach_scale("none", 1, "axis");
  file.close();
  const Hdf5File again = Hdf5File::open(directory / "file.h5");
  EXPECT_EQ(again.shape("none"), (Shape{3, 0, 2}));
  EXPECT_THAT(again.read<double>("none"), IsEmpty());
  EXPECT_THAT(again.read_rows<double>("none", 1, 2), IsEmpty());
  EXPECT_THAT(again.read<std::string>("texts"), IsEmpty());
  EXPECT_EQ(again.attribute<std::string>("axis", "CLASS"), "DIMENSION_SCALE");
  EXPECT_EQ(again.attribute<std::string>("axis", "NAME"), "axis");
}

TEST(Hdf5File, RowsAreWrittenInAnyOrderAndReadInPart) {
  const TemporaryDirectory directory;
  // Rows of 80,000 bytes: several chunks, with the last one not full.
  constexpr int64_t kRows = 23, kLength = 10000;
  const auto value = [](int64_t row, int64_t column) { return static_cast<double>(row * kLength + column); };
  for (const Storage storage : {Storage::contiguous, Storage::checked, Storage::compressed}) {
    Hdf5File file = Hdf5File::create(directory / "file.h5");
    file.create_rows<double>("rows", {kRows, 2, kLength / 2}, storage);
    for (int64_t i = 0; i < kRows; ++i) {
      const int64_t row = i * 7 % kRows;
      std::vector<double> values(kLength);
      for (int64_t c = 0; c < kLength; ++c) values[static_cast<size_t>(c)] = value(row, c);
      file.write_rows<double>("rows", row, values);
    }
    file.close();
    const Hdf5File again = Hdf5File::open(directory / "file.h5");
    const std::vector<double> part = again.read_rows<double>("rows", 20, 3);
    ASSERT_EQ(part.size(), 3u * kLength);
    EXPECT_EQ(part.front(), value(20, 0));
    EXPECT_EQ(part.back(), value(22, kLength - 1));
    std::vector<double> expected(kRows * kLength);
    std::iota(expected.begin(), expected.end(), 0.0);
    EXPECT_EQ(again.read<double>("rows"), expected);
    EXPECT_THROW(again.read_rows<double>("rows", 22, 2), InputError);
    EXPECT_THROW(again.read_rows<double>("rows", -1, 1), InputError);
  }
}

TEST(Hdf5File, WrongShapesAndRowsAreRefused) {
  const TemporaryDirectory directory;
  Hdf5File file = Hdf5File::create(directory / "file.h5");
  EXPECT_THROW(file.write<float>("x", std::vector<float>(5), {2, 3}), Error);
  file.create_rows<float>("rows", {2, 3});
  EXPECT_THROW(file.write_rows<float>("rows", 0, std::vector<float>(4)), Error);
  EXPECT_THROW(file.write_rows<float>("rows", 1, std::vector<float>(6)), Error);
  EXPECT_THROW(file.write_rows<double>("rows", 0, std::vector<double>(3)), Error);
  EXPECT_THROW(file.create_rows<float>("rows", {2, 3}), Error) << "the name is taken";
  EXPECT_THROW(file.write<std::string>("zero", std::vector<std::string>{std::string("a\0b", 3)}), Error);
}

TEST(Hdf5File, AttributesKeepTheirTypes) {
  const TemporaryDirectory directory;
  const std::vector<Attribute> attributes = {{"flag", true},
                                             {"seed", int64_t{1} << 60},
                                             {"rate", 2e-3},
                                             {"name", "wordnet – é"},
                                             {"empty", ""},
                                             {"long", std::string(200000, 'y')},
                                             {"targets", std::vector<std::string>{"query", "value"}},
                                             {"numbers", std::vector<double>{0.5, 1e300}},
                                             {"none", std::vector<std::string>{}}};
  Hdf5File file = Hdf5File::create(directory / "file.h5");
  file.write<int32_t>("data", std::vector<int32_t>{1});
  file.make_group("options");
  for (const char* object : {"/", "options", "data"}) {
    for (const Attribute& attribute : attributes) file.set_attribute(object, attribute.name, attribute.value);
    file.set_attribute(object, "seed", int64_t{3});
  }
  file.close();
  const Hdf5File again = Hdf5File::open(directory / "file.h5");
  for (const char* object : {"/", "options", "data"}) {
    EXPECT_TRUE(again.attribute<bool>(object, "flag"));
    EXPECT_EQ(again.attribute<int64_t>(object, "seed"), 3) << "replaced";
    EXPECT_EQ(again.attribute<double>(object, "rate"), 2e-3);
    EXPECT_EQ(again.attribute<double>(object, "seed"), 3.0);
    EXPECT_EQ(again.attribute<std::string>(object, "name"), "wordnet – é");
    EXPECT_EQ(again.attribute<std::string>(object, "empty"), "");
    EXPECT_EQ(again.attribute<std::string>(object, "long").size(), 200000u);
    EXPECT_THAT(again.attribute<std::vector<std::string>>(object, "targets"), ElementsAre("query", "value"));
    EXPECT_THAT(again.attribute<std::vector<double>>(object, "numbers"), ElementsAre(0.5, 1e300));
    EXPECT_THAT(again.attribute<std::vector<std::string>>(object, "none"), IsEmpty());
    EXPECT_THROW(again.attribute<int64_t>(object, "rate"), InputError);
    EXPECT_THROW(again.attribute<std::string>(object, "targets"), InputError);
    EXPECT_THROW(again.attribute<bool>(object, "seed"), InputError) << "3 is no truth value";
    EXPECT_THAT(message_of<InputError>([&] { again.attribute<double>(object, "other"); }),
                AllOf(HasSubstr("other"), HasSubstr("file.h5")));
    EXPECT_TRUE(again.has_attribute(object, "flag"));
    EXPECT_FALSE(again.has_attribute(object, "other"));
  }
  EXPECT_THAT(again.attribute_names("data"),
              ElementsAre("empty", "flag", "long", "name", "none", "numbers", "rate", "seed", "targets"));
}

TEST(Hdf5File, ObjectsAreFoundByPath) {
  const TemporaryDirectory directory;
  Hdf5File file = Hdf5File::create(directory / "file.h5");
  file.write<float>("client/encoder.layer.0.query/C", std::vector<float>{1});
  file.make_group("client/head");
  file.make_group("client/head");
  EXPECT_TRUE(file.exists("/"));
  EXPECT_TRUE(file.exists("client"));
  EXPECT_TRUE(file.exists("client/encoder.layer.0.query/C"));
  EXPECT_TRUE(file.exists("/client/head"));
  EXPECT_FALSE(file.exists("common/head/weight"));
  EXPECT_THAT(file.children("client"), ElementsAre("encoder.layer.0.query", "head"));
  EXPECT_THAT(file.children(), ElementsAre("client"));
  EXPECT_THAT(message_of<InputError>([&] { file.read<float>("client/D"); }),
              AllOf(HasSubstr("client/D"), HasSubstr("file.h5")));
}

TEST(Hdf5File, AnExistingFileCanBeAddedTo) {
  const TemporaryDirectory directory;
  Hdf5File::create(directory / "file.h5").close();
  Hdf5File file = Hdf5File::open_for_writing(directory / "file.h5");
  file.write<int64_t>("more", std::vector<int64_t>{5});
  file.close();
  EXPECT_THAT(Hdf5File::open(directory / "file.h5").read<int64_t>("more"), ElementsAre(5));
  Hdf5File closed = Hdf5File::open(directory / "file.h5");
  EXPECT_THROW(closed.write<float>("x", std::vector<float>{1}), Error) << "opened read-only";
}

TEST(Hdf5File, FilesThatCannotBeReadSayWhy) {
  const TemporaryDirectory directory;
  const auto open = [&](const std::string& name) {
    return message_of<InputError>([&] { Hdf5File::open(directory / name); });
  };
  EXPECT_THAT(open("missing.h5"), AllOf(HasSubstr("missing.h5"), HasSubstr("No such file")));
  EXPECT_THAT(open(""), HasSubstr("is not a file"));
  write_file(directory / "text.h5", "label\ttext\n");
  EXPECT_THAT(open("text.h5"), HasSubstr("is not an HDF5 file"));
  write_file(directory / "empty.h5", "");
  EXPECT_THAT(open("empty.h5"), HasSubstr("is not an HDF5 file"));
  Hdf5File file = Hdf5File::create(directory / "whole.h5");
  file.write<double>("x", std::vector<double>(1000, 1.5));
  file.close();
  const std::string bytes = read_file(directory / "whole.h5");
  for (const size_t length : {bytes.size() - 1, bytes.size() / 2, size_t{600}}) {
    write_file(directory / "cut.h5", bytes.substr(0, length));
    EXPECT_THAT(open("cut.h5"), AllOf(HasSubstr("cut.h5"), HasSubstr("truncated")));
  }
  EXPECT_THAT(message_of<Error>([&] { Hdf5File::create(directory / "no/such/place.h5"); }),
              AllOf(HasSubstr("cannot create"), HasSubstr("place.h5")));
}

TEST(Hdf5File, CheckedStorageNoticesAChangedByte) {
  const TemporaryDirectory directory;
  Hdf5File file = Hdf5File::create(directory / "file.h5");
  const std::vector<double> values(1000, 1234.5678);
  file.write<double>("x", values, {10, 100}, Storage::checked);
  file.close();
  std::string bytes = read_file(directory / "file.h5");
  const std::string number(reinterpret_cast<const char*>(values.data()), sizeof(double));
  const size_t at = bytes.find(number + number);
  ASSERT_NE(at, std::string::npos);
  bytes[at + 3] = static_cast<char>(bytes[at + 3] ^ 4);
  write_file(directory / "file.h5", bytes);
  EXPECT_THAT(message_of<InputError>([&] { Hdf5File::open(directory / "file.h5").read<double>("x"); }),
              AllOf(HasSubstr("cannot read 'x'"), HasSubstr("file.h5")));
}

TEST(WriteAtomically, KeepsThePreviousFileWhenWritingThrows) {
  const TemporaryDirectory directory;
  const std::string path = directory / "file.h5";
  write_atomically(path, [](Hdf5File& file) { file.write<int32_t>("x", std::vector<int32_t>{1}); });
  EXPECT_THROW(write_atomically(path,
                                [](Hdf5File& file) {
                                  file.write<int32_t>("x", std::vector<int32_t>{2});
                                  throw InputError("stopped");
                                }),
               InputError);
  EXPECT_THAT(Hdf5File::open(path).read<int32_t>("x"), ElementsAre(1));
  EXPECT_FALSE(std::filesystem::exists(partial_path(path)));
}

TEST(WriteAtomically, ReportsAFullDiskAndKeepsThePreviousFile) {
  const TemporaryDirectory directory;
  const std::string path = directory / "file.h5";
  write_atomically(path, [](Hdf5File& file) { file.write<int32_t>("x", std::vector<int32_t>{1}); });
  // A limit on the file's size stands for the full disk: write() fails with EFBIG instead of ENOSPC.
  const pid_t child = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100000, 100000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::vector<double> many(100000);
    for (size_t i = 0; i < many.size(); ++i) many[i] = std::sin(static_cast<double>(i));
    for (const Storage storage : {Storage::contiguous, Storage::checked, Storage::compressed}) {
      bool reported = false;
      try {
        write_atomically(path, [&](Hdf5File& file) { file.write<double>("x", many, {100, 1000}, storage); });
      } catch (const Error& error) {
        const std::string message = error.what();
        reported = error.code() == ExitCode::internal_error &&
                   message.find("File too large") != std::string::npos &&
                   message.find(path) != std::string::npos;
      }
      if (!reported) throw std::runtime_error("no Error, or not one that says why");
    }
    std::exit(0);  // with everything that runs at exit: HDF5 must not crash there
  });
  EXPECT_EQ(end_of(child), 0);
  EXPECT_THAT(Hdf5File::open(path).read<int32_t>("x"), ElementsAre(1));
  EXPECT_FALSE(std::filesystem::exists(partial_path(path)));
}

TEST(WriteAtomically, AKillLeavesAWholeFile) {
  const TemporaryDirectory directory;
  const std::string path = directory / "file.h5";
  const auto write_version = [&](int64_t version) {
    write_atomically(path, [&](Hdf5File& file) {
      file.set_attribute("/", "version", version);
      file.write<int64_t>("x", std::vector<int64_t>(50000, version));
    });
  };
  const double duration = duration_of([&] { write_version(0); });
  int64_t newest = 0;
  // Each child lives a little longer; on a busy machine it may take many until one finishes a file.
  for (int kill = 0; kill < 20 || (newest == 0 && kill < 300); ++kill) {
    const pid_t child = in_child([&] {
      for (int64_t version = newest + 1;; ++version) write_version(version);
    });
    ::usleep(static_cast<useconds_t>(duration * (0.3 + 0.27 * kill)));
    const int status = end_of(child, true);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child was to be killed at work";
    const Hdf5File file = Hdf5File::open(path);
    const auto version = file.attribute<int64_t>("/", "version");
    EXPECT_EQ(file.read<int64_t>("x"), std::vector<int64_t>(50000, version));
    EXPECT_GE(version, newest);
    newest = version;
  }
  EXPECT_GT(newest, 0) << "no child ever finished a file";
}

TEST(WriteTextAtomically, ReplacesTheText) {
  const TemporaryDirectory directory;
  write_text_atomically(directory / "options.ini", "a=1\n");
  write_text_atomically(directory / "options.ini", "b=2\n");
  EXPECT_EQ(read_file(directory / "options.ini"), "b=2\n");
  EXPECT_THROW(write_text_atomically(directory / "no/options.ini", "c"), Error);
}

}  // namespace
}  // namespace pf2lora
