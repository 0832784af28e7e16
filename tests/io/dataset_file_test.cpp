#include "io/dataset_file.h"

#include "core/error.h"
#include "io/hdf5_file.h"
#include "temporary_directory.h"

namespace pf2lora {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kSha256(64, 'a');

// What a dataset file of four examples holds; tests change one thing.
struct Contents {
  std::vector<Attribute> attributes = {{"format", "pf2lora-dataset"},
                                       {"format_version", int64_t{1}},
                                       {"name", "glosses"},
                                       {"tokenizer", "models/minilm"},
                                       {"tokenizer_sha256", kSha256},
                                       {"vocabulary_size", int64_t{100}},
                                       {"max_length", int64_t{4}},
                                       {"source", "somewhere"},
                                       {"licence", "MIT"},
                                       {"input_sha256", std::string(64, '0')},
                                       {"text_columns", "gloss"}};
  std::vector<int32_t> tokens = {1, 2, 3, 99, 4, 5, 6, 7, 0};
  std::vector<int64_t> offsets = {0, 3, 4, 8, 9};
  std::vector<int32_t> labels = {0, 1, 1, 0};
  std::vector<int8_t> split = {0, 0, 1, 2};
  std::vector<std::string> class_names = {"noun.act", "noun.animal"};
  std::vector<int32_t> client = {};
  std::vector<std::string> client_names = {};

  void set(const std::string& name, const AttributeValue& value) {
    for (Attribute& attribute : attributes) {
      if (attribute.name == name) attribute.value = value;
    }
  }
};

void write_contents(const std::string& path, const Contents& contents) {
  Hdf5File file = Hdf5File::create(path);
  for (const Attribute& attribute : contents.attributes) {
    file.set_attribute("/", attribute.name, attribute.value);
  }
  file.write<int32_t>("tokens", contents.tokens);
  file.write<int64_t>("offsets", contents.offsets);
  file.write<int32_t>("labels", contents.labels);
  file.write<int8_t>("split", contents.split);
  file.write<std::string>("class_name", contents.class_names);
  if (!contents.client.empty()) {
    file.write<int32_t>("client", contents.client);
    file.write<std::string>("client_name", contents.client_names);
  }
  file.close();
}

class DatasetFile : public ::testing::Test {
 protected:
  std::string path() const { return directory_ / "glosses.h5"; }
  // Writes `contents` and expects one InputError that names the file, `parts` and what to do.
  void expect_refused(const Contents& contents, const std::vector<std::string>& parts) {
    write_contents(path(), contents);
    expect_refused_file(parts);
  }
  void expect_refused_file(const std::vector<std::string>& parts) {
    const std::string message = message_of<InputError>([&] { read_dataset(path()); });
    EXPECT_THAT(message, HasSubstr("dataset '" + path() + "'"));
    EXPECT_THAT(message, HasSubstr("prepare the file again with jobs/prepare.py"));
    for (const std::string& part : parts) EXPECT_THAT(message, HasSubstr(part));
  }

  TemporaryDirectory directory_;
};

TEST_F(DatasetFile, ReadsEverything) {
  Contents contents;
  contents.client = {2, 0, 1, 2};
  contents.client_names = {"Ann", "Bo", "Cé"};
  write_contents(path(), contents);
  const TokenDataset data = read_dataset(path());
  EXPECT_EQ(data.size(), 4);
  EXPECT_EQ(data.tokens, contents.tokens);
  EXPECT_EQ(data.offsets, contents.offsets);
  EXPECT_EQ(data.labels, contents.labels);
  EXPECT_EQ(data.split, contents.split);
  EXPECT_EQ(data.class_names, contents.class_names);
  EXPECT_EQ(data.client, contents.client);
  EXPECT_EQ(data.client_names, contents.client_names);
  EXPECT_EQ(data.name, "glosses");
  EXPECT_EQ(data.tokenizer, "models/minilm");
  EXPECT_EQ(data.tokenizer_sha256, kSha256);
  EXPECT_EQ(data.source, "somewhere");
  EXPECT_EQ(data.licence, "MIT");
  EXPECT_EQ(data.sha256, std::string(64, '0'));
  EXPECT_EQ(data.vocabulary_size, 100);
  EXPECT_EQ(data.max_length, 4);
  EXPECT_THAT(std::vector<int32_t>(data.example(2).begin(), data.example(2).end()), ElementsAre(4, 5, 6, 7));
}

TEST_F(DatasetFile, ReadsAFileWithoutClients) {
  write_contents(path(), {});
  EXPECT_THAT(read_dataset(path()).client, IsEmpty());
}

TEST_F(DatasetFile, RefusesEveryMissingAttribute) {
  for (const Attribute& attribute : Contents{}.attributes) {
    if (attribute.name == "text_columns") continue;  // for people; the program does not use it
    Contents contents;
    std::erase_if(contents.attributes, [&](const Attribute& a) { return a.name == attribute.name; });
    expect_refused(contents, {"has no attribute '" + attribute.name + "'"});
  }
}

TEST_F(DatasetFile, RefusesWrongAttributes) {
  const auto refuse = [&](const std::string& name, const AttributeValue& value, const std::string& part) {
    Contents contents;
    contents.set(name, value);
    expect_refused(contents, {name, part});
  };
  refuse("format", "other-dataset", "'other-dataset'");
  refuse("format_version", int64_t{2}, "is 2, but this program reads 1");
  refuse("vocabulary_size", int64_t{0}, "is 0, not positive");
  refuse("max_length", int64_t{-4}, "is -4, not positive");
  refuse("max_length", "four", "not an integer");
  refuse("name", int64_t{3}, "not a text");
  refuse("input_sha256", "abc", "'abc', not a SHA-256");
  refuse("tokenizer_sha256", std::string(64, 'G'), "not a SHA-256");
}

TEST_F(DatasetFile, RefusesEveryMissingDataset) {
  const std::vector<std::string> names = {"tokens", "offsets", "labels", "split", "class_name"};
  for (const std::string& missing : names) {
    Hdf5File file = Hdf5File::create(path());
    for (const Attribute& attribute : Contents{}.attributes) {
      file.set_attribute("/", attribute.name, attribute.value);
    }
    const Contents contents;
    if (missing != "tokens") file.write<int32_t>("tokens", contents.tokens);
    if (missing != "offsets") file.write<int64_t>("offsets", contents.offsets);
    if (missing != "labels") file.write<int32_t>("labels", contents.labels);
    if (missing != "split") file.write<int8_t>("split", contents.split);
    if (missing != "class_name") file.write<std::string>("class_name", contents.class_names);
    file.close();
    expect_refused_file({"has no dataset '" + missing + "'"});
  }
}

TEST_F(DatasetFile, RefusesWrongTypesAndShapes) {
  const auto with = [&](const std::function<void(Hdf5File&)>& write_labels) {
    Hdf5File file = Hdf5File::create(path());
    for (const Attribute& attribute : Contents{}.attributes) {
      file.set_attribute("/", attribute.name, attribute.value);
    }
    write_labels(file);
    file.close();
  };
  with([](Hdf5File& file) { file.write<int64_t>("labels", std::vector<int64_t>{0, 1}); });
  expect_refused_file({"'labels' is stored as another type"});
  with([](Hdf5File& file) { file.write<int32_t>("labels", std::vector<int32_t>{0, 1}, {1, 2}); });
  expect_refused_file({"'labels' has 2 axes instead of one"});
  with([](Hdf5File& file) { file.write<int32_t>("labels", std::vector<int32_t>{}); });
  expect_refused_file({"holds no examples"});
}

TEST_F(DatasetFile, RefusesBadRows) {
  const auto refuse = [&](const std::function<void(Contents&)>& change,
                          const std::vector<std::string>& parts) {
    Contents contents;
    change(contents);
    expect_refused(contents, parts);
  };
  refuse([](Contents& c) { c.offsets.pop_back(); }, {"'offsets' has 4 entries instead of 5"});
  refuse([](Contents& c) { c.split.push_back(0); }, {"'split' has 5 entries instead of 4"});
  refuse([](Contents& c) { c.offsets[0] = 1; }, {"example 0", "starts at token 1"});
  refuse([](Contents& c) { c.offsets[2] = 2; }, {"example 1", "ends at token 2, before its start 3"});
  refuse([](Contents& c) { c.offsets[2] = 3; }, {"example 1", "is empty"});
  refuse([](Contents& c) { c.offsets[2] = 10; }, {"example 1", "ends at token 10, but there are 9"});
  refuse([](Contents& c) { c.offsets[2] = int64_t{1} << 62; }, {"example 1", "but there are 9"});
  refuse([](Contents& c) { c.tokens.push_back(1); }, {"example 3", "ends at token 9, but there are 10"});
  refuse([](Contents& c) { c.set("max_length", int64_t{3}); }, {"example 2", "has 4 tokens", "max_length 3"});
  refuse([](Contents& c) { c.tokens[3] = -1; }, {"example 1", "token -1", "vocabulary of 100"});
  refuse([](Contents& c) { c.tokens[8] = 100; }, {"example 3", "token 100", "vocabulary of 100"});
  refuse([](Contents& c) { c.labels[2] = 2; }, {"example 2", "label 2", "the 2 classes"});
  refuse([](Contents& c) { c.labels[0] = -1; }, {"example 0", "label -1"});
  refuse([](Contents& c) { c.split[3] = 3; }, {"example 3", "split 3"});
  refuse([](Contents& c) { c.split[0] = -1; }, {"example 0", "split -1"});
  refuse([](Contents& c) { c.class_names.clear(); }, {"names no classes"});
  refuse(
      [](Contents& c) {
        c.client = {0, 1, 2, 0};
        c.client_names = {"Ann", "Bo"};
      },
      {"example 2", "client 2", "the 2 client names"});
  refuse([](Contents& c) { c.client = {0, 0}; }, {"'client' has 2 entries instead of 4"});
}

TEST_F(DatasetFile, RefusesAClientColumnWithoutNames) {
  write_contents(path(), {});
  Hdf5File file = Hdf5File::open_for_writing(path());
  file.write<int32_t>("client", std::vector<int32_t>{0, 0, 0, 0});
  file.close();
  expect_refused_file({"only one of the datasets 'client' and 'client_name'"});
}

TEST(MissingDatasetFile, IsNamedWithTheCommandThatMakesIt) {
  const auto message = [](const std::string& file) {
    return message_of<InputError>([&] { read_dataset(file); });
  };
  EXPECT_THAT(message("nowhere/wordnet.h5"),
              HasSubstr(".venv/bin/python jobs/prepare.py wordnet --output nowhere/wordnet.h5"));
  EXPECT_THAT(message("nowhere/mine.h5"),
              AllOf(HasSubstr(".venv/bin/python jobs/prepare.py DATASET --output nowhere/mine.h5"),
                    HasSubstr("--help")));
}

TEST_F(DatasetFile, RefusesFilesThatAreNoDataset) {
  const auto expect_unreadable = [&](const std::string& part) {
    EXPECT_THAT(message_of<InputError>([&] { read_dataset(path()); }),
                AllOf(HasSubstr(path()), HasSubstr(part), HasSubstr("jobs/prepare.py")));
  };
  expect_unreadable("does not exist");
  write_file(path(), "gloss\tlabel\n");
  expect_unreadable("is not an HDF5 file");
  write_contents(path(), {});
  const std::string bytes = read_file(path());
  write_file(path(), bytes.substr(0, bytes.size() / 2));
  expect_unreadable("truncated");
  Hdf5File::create(path()).close();
  expect_refused_file({"has no attribute 'format'"});
}

}  // namespace
}  // namespace pf2lora
