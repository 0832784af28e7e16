#include "io/checkpoint.h"

#include <cmath>
#include <cstring>

#include "core/error.h"
#include "io/atomic_file.h"
#include "temporary_directory.h"

namespace pf2lora {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Checkpoint : public ::testing::Test {
 protected:
  std::string path() const { return directory_ / "checkpoint.h5"; }

  // A checkpoint in which every number follows from the round.
  void save(int64_t round, int64_t clients = 5, int64_t length = 7) const {
    CheckpointWriter writer(path(), round);
    writer.put_text("options", "[run]\nseed=" + std::to_string(round) + "\n");
    const std::vector<double> common(100, static_cast<double>(round) / 3);
    writer.put_array<double>("common", common);
    std::vector<int64_t> ids;
    for (int64_t k = 0; k < clients; ++k) ids.push_back(10 * k + 3);
    writer.declare_client_rows<float>(ids, length);
    for (int64_t k = clients - 1; k >= 0; --k) {  // rows come in the order of the ranks, not of the clients
      const std::vector<float> row(static_cast<size_t>(length), static_cast<float>(round * 1000 + k));
      writer.put_client_row<float>(10 * k + 3, row);
    }
    writer.commit();
  }

  TemporaryDirectory directory_;
};

TEST_F(Checkpoint, EverythingComesBackBitForBit) {
  const std::vector<double> common = {0.1, -0.0, 1e-310, std::nan("")};
  const std::vector<float> moments = {0.1f, 3e-40f};
  const std::vector<int64_t> counts = {int64_t{1} << 62, -5};
  const std::vector<int32_t> ranks = {8, 2};
  {
    CheckpointWriter writer(path(), 12);
    writer.put_text("options", "seed=1\n");
    writer.put_text("version", "0.1.0");
    writer.put_array<double>("common/row", common);
    writer.put_array<float>("moments", moments);
    writer.put_array<int64_t>("counts", counts);
    writer.put_array<int32_t>("ranks", ranks);
    writer.put_array<double>("empty", {});
    writer.declare_client_rows<double>(std::vector<int64_t>{7, 3}, 2);
    writer.put_client_row<double>(3, std::vector<double>{0.3, 0.33});
    writer.put_client_row<double>(7, std::vector<double>{0.7, 0.77});
    writer.commit();
  }
  const CheckpointReader reader(path());
  EXPECT_EQ(reader.round(), 12);
  EXPECT_THAT(reader.text_names(), ElementsAre("options", "version"));
  EXPECT_EQ(reader.text("options"), "seed=1\n");
  const std::vector<double> again = reader.array<double>("common/row");
  ASSERT_EQ(again.size(), common.size());
  EXPECT_EQ(std::memcmp(again.data(), common.data(), common.size() * sizeof(double)), 0);
  EXPECT_EQ(reader.array<float>("moments"), moments);
  EXPECT_EQ(reader.array<int64_t>("counts"), counts);
  EXPECT_EQ(reader.array<int32_t>("ranks"), ranks);
  EXPECT_THAT(reader.array<double>("empty"), IsEmpty());
  EXPECT_THAT(reader.clients(), ElementsAre(3, 7));
  EXPECT_EQ(reader.client_row_length(), 2);
  EXPECT_THAT(reader.client_row<double>(7), ElementsAre(0.7, 0.77));
  EXPECT_THAT(reader.client_row<double>(3), ElementsAre(0.3, 0.33));
}

TEST_F(Checkpoint, ClientsAndRowsMayBeEmpty) {
  {
    CheckpointWriter writer(path(), 0);
    writer.declare_client_rows<float>(std::vector<int64_t>{1, 2}, 0);  // a method without personal parameters
    writer.put_client_row<float>(2, {});
    writer.put_client_row<float>(1, {});
    writer.commit();
  }
  EXPECT_THAT(CheckpointReader(path()).client_row<float>(2), IsEmpty());
  {
    CheckpointWriter writer(path(), 0);
    writer.commit();
  }
  EXPECT_THAT(CheckpointReader(path()).clients(), IsEmpty());
}

TEST_F(Checkpoint, WithoutCommitThePreviousOneStays) {
  save(1);
  {
    CheckpointWriter writer(path(), 2);
    writer.put_array<double>("common", std::vector<double>{1});
  }
  EXPECT_EQ(CheckpointReader(path()).round(), 1);
  EXPECT_FALSE(std::filesystem::exists(partial_path(path())));
  save(3);
  EXPECT_EQ(CheckpointReader(path()).round(), 3);
}

TEST_F(Checkpoint, IncompleteOrUnknownRowsAreRefused) {
  CheckpointWriter writer(path(), 1);
  EXPECT_THROW(writer.declare_client_rows<float>(std::vector<int64_t>{4, 4}, 1), Error);
  CheckpointWriter other(directory_ / "other.h5", 1);
  other.declare_client_rows<float>(std::vector<int64_t>{1, 2}, 2);
  EXPECT_THROW(other.put_client_row<float>(3, std::vector<float>(2)), Error);
  EXPECT_THROW(other.put_client_row<float>(1, std::vector<float>(3)), Error);
  other.put_client_row<float>(1, std::vector<float>(2));
  EXPECT_THROW(other.put_client_row<float>(1, std::vector<float>(2)), Error) << "given twice";
  EXPECT_THAT(message_of<Error>([&] { other.commit(); }), HasSubstr("client 2"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "other.h5"));
}

TEST_F(Checkpoint, ForeignAndDamagedFilesAreRefused) {
  const auto refused = [&](const std::string& part) {
    EXPECT_THAT(message_of<InputError>([&] {
                  const CheckpointReader reader(path());
                  for (const int64_t client : reader.clients()) reader.client_row<float>(client);
                }),
                AllOf(HasSubstr(path()), HasSubstr(part)));
  };
  refused("No such file");
  Hdf5File::create(path()).close();
  refused("is not a checkpoint of this program");
  save(1);
  const std::string bytes = read_file(path());
  write_file(path(), bytes.substr(0, bytes.size() - 100));
  refused("truncated");
  save(1);
  Hdf5File file = Hdf5File::open_for_writing(path());
  file.set_attribute("/", "format_version", int64_t{9});
  file.close();
  refused("format version 9");

  save(1);
  std::string damaged = read_file(path());
  const float number = 1002;  // client 2's values
  const std::string pattern(reinterpret_cast<const char*>(&number), sizeof(number));
  const size_t at = damaged.find(pattern + pattern + pattern);
  ASSERT_NE(at, std::string::npos);
  damaged[at] = static_cast<char>(damaged[at] ^ 1);
  write_file(path(), damaged);
  refused("clients/rows");
}

TEST_F(Checkpoint, WhatIsNotThereIsNamed) {
  save(1);
  const CheckpointReader reader(path());
  EXPECT_THAT(message_of<InputError>([&] { reader.client_row<float>(4); }), HasSubstr("client 4"));
  EXPECT_THAT(message_of<InputError>([&] { reader.text("version"); }), HasSubstr("'version'"));
  EXPECT_THAT(message_of<InputError>([&] { reader.array<double>("moments"); }), HasSubstr("'moments'"));
  EXPECT_THROW(reader.client_row<double>(3), InputError) << "the rows are float";
  EXPECT_FALSE(reader.has_text("version"));
  EXPECT_TRUE(reader.has_array("common"));
}

TEST_F(Checkpoint, AKillLeavesAWholeCheckpoint) {
  const double duration = duration_of([&] { save(0, 50, 500); });
  int64_t newest = 0;
  for (int kill = 0; kill < 20; ++kill) {
    const pid_t child = in_child([&] {
      for (int64_t round = newest + 1;; ++round) save(round, 50, 500);
    });
    ::usleep(static_cast<useconds_t>(duration * (0.3 + 0.27 * kill)));
    ASSERT_TRUE(WIFSIGNALED(end_of(child, true)));
    const CheckpointReader reader(path());
    const int64_t round = reader.round();
    EXPECT_EQ(reader.text("options"), "[run]\nseed=" + std::to_string(round) + "\n");
    EXPECT_EQ(reader.array<double>("common"), std::vector<double>(100, static_cast<double>(round) / 3));
    for (int64_t k = 0; k < 50; ++k) {
      EXPECT_EQ(reader.client_row<float>(10 * k + 3),
                std::vector<float>(500, static_cast<float>(round * 1000 + k)));
    }
    EXPECT_GE(round, newest);
    newest = round;
  }
  EXPECT_GT(newest, 0) << "no child ever finished a checkpoint";
}

}  // namespace
}  // namespace pf2lora
