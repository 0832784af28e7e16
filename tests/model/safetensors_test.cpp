#include "model/safetensors.h"

#include <limits>

#include "core/error.h"
#include "model/safetensors_file.h"

namespace pf2lora {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class SafeTensorsTest : public testing::Test {
 protected:
  SafeTensors open(const std::string& bytes) {
    write_file(file_, bytes);
    return SafeTensors(file_);
  }
  // The message of a refusal of the file's bytes, which must name it.
  std::string refusal(const std::string& bytes) {
    const std::string message = message_of<InputError>([&] { open(bytes); });
    EXPECT_THAT(message, HasSubstr(file_));
    return message;
  }
  static std::string with_header(const std::string& header) {
    return safetensors_header(header.size(), header);
  }

  TemporaryDirectory directory_;
  std::string file_ = directory_ / "model.safetensors";
};

TEST_F(SafeTensorsTest, GivesWhatWasWritten) {
  const auto one = torch::tensor({{1.5f, -2.0f, 3.0f}, {0.0f, 1e-30f, 7.0f}});
  const auto two = torch::tensor({1.0 / 3, -5.0}, torch::kFloat64);
  const auto half = torch::tensor({0.5f, -65504.0f}).to(torch::kFloat16);
  const auto brain = torch::tensor({3.0f, 1e30f}).to(torch::kBFloat16);
  const SafeTensors file =
      open(safetensors_bytes({{"one", one}, {"two", two}, {"half", half}, {"brain", brain}}));
  EXPECT_TRUE(torch::equal(file.get("one", {2, 3}), one));
  EXPECT_TRUE(torch::equal(file.get("two", {2}), two));
  EXPECT_TRUE(torch::equal(file.get("half", {2}), half));
  EXPECT_TRUE(torch::equal(file.get("brain", {2}), brain));
  EXPECT_TRUE(file.contains("one"));
  EXPECT_FALSE(file.contains("__metadata__"));
}

TEST_F(SafeTensorsTest, TensorsOutliveTheFileObject) {
  torch::Tensor tensor;
  {
    const SafeTensors file = open(safetensors_bytes({{"x", torch::arange(1000, torch::kFloat32)}}));
    tensor = file.get("x", {1000});
  }
  std::filesystem::remove(file_);
  EXPECT_EQ(tensor.sum().item<float>(), 499500);
}

TEST_F(SafeTensorsTest, RefusesWhatIsNotThere) {
  EXPECT_THAT(message_of<InputError>([&] { SafeTensors{file_}; }),
              AllOf(HasSubstr(file_), HasSubstr("No such file"), HasSubstr("--model takes a directory")));
  EXPECT_THAT(message_of<InputError>([&] { SafeTensors{directory_.path()}; }), HasSubstr(directory_.path()));
}

TEST_F(SafeTensorsTest, RefusesForeignFiles) {
  EXPECT_THAT(refusal(""), HasSubstr("0 bytes long"));
  EXPECT_THAT(refusal("abc"), HasSubstr("it is 3 bytes long"));
  EXPECT_THAT(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:0"), HasSubstr("goes beyond"));
  EXPECT_THAT(refusal(with_header("not JSON")), HasSubstr("not a safetensors file"));
  EXPECT_THAT(refusal(with_header("[{}, 2]")), HasSubstr("not a safetensors file"));
  EXPECT_THAT(refusal(with_header("5")), HasSubstr("not a safetensors file"));
  EXPECT_THAT(refusal(with_header(R"({"x": {"dtype": "F32", "shape": [1]}})")), HasSubstr("data_offsets"));
  EXPECT_THAT(refusal(safetensors_header(std::numeric_limits<uint64_t>::max(), "{}")),
              HasSubstr("goes beyond"));
}

TEST_F(SafeTensorsTest, RefusesATruncatedFileAtEveryLength) {
  const std::string whole = safetensors_bytes({{"x", torch::ones({4})}, {"y", torch::ones({2, 2})}});
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_THAT(refusal(whole.substr(0, length)),
                testing::AnyOf(HasSubstr("truncated"), HasSubstr("0 bytes")))
        << length;
  EXPECT_NO_THROW(open(whole));
}

TEST_F(SafeTensorsTest, RefusesRangesThatDoNotFit) {
  const auto entry = [](const std::string& shape, const std::string& range) {
    return with_header(R"({"x": {"dtype": "F32", "shape": )" + shape + R"(, "data_offsets": )" + range +
                       "}}") +
           std::string(16, '\0');
  };
  EXPECT_NO_THROW(open(entry("[2, 2]", "[0, 16]")));
  EXPECT_THAT(refusal(entry("[2, 2]", "[0, 12]")), HasSubstr("tensor x does not have the size of its shape"));
  EXPECT_THAT(refusal(entry("[2, 2]", "[4, 20]")), HasSubstr("tensor x ends at byte"));
  EXPECT_THAT(refusal(entry("[2, 2]", "[16, 0]")), HasSubstr("tensor x"));
  EXPECT_THAT(refusal(entry("[2, 2]", "[0]")), HasSubstr("tensor x"));
  const SafeTensors negative = open(entry("[-2, -2]", "[0, 16]"));  // a shape that no model asks for
  EXPECT_THAT(message_of<InputError>([&] { negative.get("x", {2, 2}); }), HasSubstr("x as [-2, -2]"));
}

TEST_F(SafeTensorsTest, RefusesATensorThatDoesNotFitTheModel) {
  const SafeTensors file =
      open(safetensors_bytes({{"x", torch::ones({2, 3})}, {"indices", torch::ones({2}, torch::kInt64)}}));
  EXPECT_THAT(message_of<InputError>([&] {
                file.get("y", {2, 3});
              }),
              AllOf(HasSubstr(file_), HasSubstr("no tensor y")));
  EXPECT_THAT(message_of<InputError>([&] {
                file.get("x", {3, 2});
              }),
              AllOf(HasSubstr(file_), HasSubstr("x as [2, 3]"), HasSubstr("asks for [3, 2]")));
  EXPECT_THAT(message_of<InputError>([&] { file.get("indices", {2}); }),
              AllOf(HasSubstr(file_), HasSubstr("indices as integers")));
}

}  // namespace
}  // namespace pf2lora
