#include "io/dataset_file.h"

#include <cmath>
#include <limits>

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
                                       {"format_version", int64_t{2}},
                                       {"task", "classification"},
                                       {"metrics", "accuracy"},
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
  std::vector<int8_t> token_types = {};
  std::vector<float> values = {};
  std::vector<int32_t> span = {}, token_characters = {}, target = {}, item = {};
  std::vector<std::string> item_id = {};

  void set(const std::string& name, const AttributeValue& value) {
    for (Attribute& attribute : attributes) {
      if (attribute.name == name) attribute.value = value;
    }
  }
};

// Four examples of 3, 1, 4 and 1 tokens, of which a span or a target can only be in the long ones.
Contents of_task(const std::string& task) {
  Contents contents;
  contents.set("task", task);
  if (task == "regression") contents.values = {0.5F, -2, 5, 0};
  if (task == "span") {
    contents.span = {1, 2, 0, 0, 3, 3, 0, 0};
    contents.token_characters = {-1, -1, 0, 2, 2, 3, 0, 3, -1, -1, 0, 1, 2, 4, -1, -1, 5, 6};
  }
  if (task == "generation") {
    contents.offsets = {0, 3, 5, 7, 9};
    contents.target = {2, 1, 1, 1};
  }
  if (task == "span" || task == "generation") {
    contents.item = {0, 0, 1, 2};
    contents.item_id = {"a", "b", "c"};
  }
  return contents;
}

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
  if (!contents.token_types.empty()) file.write<int8_t>("token_types", contents.token_types);
  if (!contents.values.empty()) file.write<float>("values", contents.values);
  if (!contents.target.empty()) file.write<int32_t>("target", contents.target);
  if (!contents.item.empty()) file.write<int32_t>("item", contents.item);
  if (!contents.item_id.empty()) file.write<std::string>("item_id", contents.item_id);
  if (!contents.token_characters.empty())
    file.write<int32_t>("token_characters", contents.token_characters,
                        {static_cast<int64_t>(contents.token_characters.size()) / 2, 2});
  if (!contents.span.empty())
    file.write<int32_t>("span", contents.span, {static_cast<int64_t>(contents.span.size()) / 2, 2});
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
    EXPECT_THAT(message, HasSubstr("'" + path() + "'"));
    EXPECT_THAT(message, HasSubstr("jobs/prepare.py"));
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
  EXPECT_EQ(data.task, Task::classification);
  EXPECT_EQ(data.metrics, "accuracy");
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

TEST_F(DatasetFile, ReadsWhatATaskHas) {
  Contents contents = of_task("regression");
  contents.token_types = {0, 0, 1, 0, 0, 127, 1, 1, 0};
  write_contents(path(), contents);
  TokenDataset data = read_dataset(path());
  EXPECT_EQ(data.task, Task::regression);
  EXPECT_EQ(data.values, contents.values);
  EXPECT_EQ(data.token_types, contents.token_types);
  EXPECT_THAT(data.item, IsEmpty());

  contents = of_task("span");
  write_contents(path(), contents);
  data = read_dataset(path());
  EXPECT_EQ(data.task, Task::span);
  EXPECT_EQ(data.span, contents.span);
  EXPECT_EQ(data.context, (std::vector<int32_t>{1, 2, 0, 0, 1, 2, 0, 0}));
  EXPECT_EQ(data.item, contents.item);
  EXPECT_EQ(data.items, 3);
  EXPECT_THAT(data.token_types, IsEmpty());

  contents = of_task("generation");
  write_contents(path(), contents);
  data = read_dataset(path());
  EXPECT_EQ(data.task, Task::generation);
  EXPECT_EQ(data.target, contents.target);
  EXPECT_EQ(data.item, contents.item);
  EXPECT_EQ(task_name(data.task), "generation");
}

TEST_F(DatasetFile, RefusesATaskWithoutItsColumns) {
  for (const auto& [task, column] :
       {std::pair{"regression", "values"}, {"span", "span"}, {"generation", "target"}}) {
    Contents contents;
    contents.set("task", task);
    expect_refused(contents, {std::string("has no dataset '") + column + "'"});
  }
  Contents contents = of_task("span");
  contents.token_characters.clear();
  expect_refused(contents, {"has no dataset 'token_characters'"});
  contents = of_task("span");
  contents.item.clear();
  expect_refused(contents, {"has no dataset 'item'"});
  contents = of_task("span");
  contents.item_id.clear();
  expect_refused(contents, {"has no dataset 'item_id'"});
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
  refuse("format_version", int64_t{1}, "is 1, but this program reads 2");
  refuse("task", "ranking", "'ranking', none of classification, regression, span, generation");
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

TEST_F(DatasetFile, RefusesBadRowsOfATask) {
  const auto refuse = [&](const std::string& task, const std::function<void(Contents&)>& change,
                          const std::vector<std::string>& parts) {
    Contents contents = of_task(task);
    change(contents);
    expect_refused(contents, parts);
  };
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  refuse("regression", [](Contents& c) { c.values[1] = kInfinity; }, {"example 1", "value inf"});
  refuse("regression", [](Contents& c) { c.values[3] = NAN; }, {"example 3", "nan is not finite"});
  refuse("regression", [](Contents& c) { c.values.pop_back(); }, {"'values' has 3 entries instead of 4"});
  refuse("span", [](Contents& c) { c.span[1] = 3; }, {"example 0", "span 1 to 3", "of its 3 tokens"});
  refuse("span", [](Contents& c) { c.span[0] = -1; }, {"example 0", "span -1 to 2"});
  refuse("span", [](Contents& c) { c.span[5] = 2; }, {"example 2", "span 3 to 2"});
  refuse("span", [](Contents& c) { c.span.resize(6); }, {"'span' has 3 entries instead of 4"});
  refuse("span", [](Contents& c) { c.token_characters[6] = -1; }, {"example 1", "no token has a place"});
  refuse("span", [](Contents& c) { c.item[2] = 3; }, {"example 2", "item 3", "the 3 items"});
  refuse("span", [](Contents& c) { c.item[0] = -1; }, {"example 0", "item -1"});
  refuse("generation", [](Contents& c) { c.target[0] = 0; }, {"example 0", "target 0", "of its 3 tokens"});
  refuse("generation", [](Contents& c) { c.target[1] = 2; }, {"example 1", "target 2", "of its 2 tokens"});
  refuse("generation", [](Contents& c) { c.target[3] = -1; }, {"example 3", "target -1"});
  refuse("classification", [](Contents& c) { c.token_types = {0, 0, 0, 0, 0, -1, 0, 0, 0}; },
         {"example 2", "token type -1 is not in [0, 127]"});
  refuse("classification",
         [](Contents& c) {
           c.token_types = {0, 1};
         },
         {"'token_types' has 2 entries instead of 9"});
}

TEST_F(DatasetFile, RefusesASpanOfOneColumn) {
  Contents contents = of_task("span");
  contents.span.clear();
  write_contents(path(), contents);
  Hdf5File file = Hdf5File::open_for_writing(path());
  file.write<int32_t>("span", std::vector<int32_t>{0, 0, 0, 0});
  file.close();
  expect_refused_file({"'span' has 1 axes instead of two"});
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
