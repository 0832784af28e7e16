#include "model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <torch/types.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"

namespace pf2lora {
namespace {

// A range of an open file, whose pages come when they are read and may go when nobody reads them.
std::shared_ptr<const char> map_range(int file, const std::string& path, size_t begin, size_t size) {
  static const auto kPage = size_t(sysconf(_SC_PAGESIZE));
  const size_t before = begin % kPage, mapped = before + size;
  void* data =
      mapped == 0 ? MAP_FAILED : mmap(nullptr, mapped, PROT_READ, MAP_SHARED, file, off_t(begin - before));
  if (data == MAP_FAILED)
    throw InputError("cannot map " + path + ", " + std::to_string(size) + " bytes from " +
                     std::to_string(begin));
  return {static_cast<const char*>(data) + before, [data, mapped](const char*) { munmap(data, mapped); }};
}

torch::ScalarType scalar_type(const std::string& name) {
  static const std::map<std::string, torch::ScalarType> types = {
      {"F64", torch::kFloat64},   {"F32", torch::kFloat32}, {"F16", torch::kFloat16},
      {"BF16", torch::kBFloat16}, {"I64", torch::kInt64},   {"I32", torch::kInt32},
      {"I16", torch::kInt16},     {"I8", torch::kInt8},     {"U8", torch::kUInt8},
      {"BOOL", torch::kBool}};
  const auto found = types.find(name);
  return found == types.end() ? torch::ScalarType::Undefined : found->second;
}

std::string text(const std::vector<int64_t>& shape) {
  std::ostringstream stream;
  stream << torch::IntArrayRef(shape);
  return stream.str();
}

}  // namespace

struct SafeTensors::OpenFile {
  explicit OpenFile(const std::string& path) : descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor < 0)
      throw InputError("cannot read " + path + " (" + std::strerror(errno) +
                       "); --model takes a directory with config.json and model.safetensors");
  }
  ~OpenFile() { close(descriptor); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  const int descriptor;
};

SafeTensors::SafeTensors(const std::string& path) : path_(path) {
  file_ = std::make_shared<const OpenFile>(path);
  struct stat status {};
  fstat(file_->descriptor, &status);
  const auto size = size_t(status.st_size);
  const auto foreign = [&](const std::string& why) {
    return InputError(path + " is not a safetensors file or is truncated: " + why + "; fetch it again");
  };
  uint64_t header = 0;
  if (size < sizeof header) throw foreign("it is " + std::to_string(size) + " bytes long");
  std::memcpy(&header, map_range(file_->descriptor, path, 0, sizeof header).get(), sizeof header);
  if (header > size - sizeof header)
    throw foreign("its header of " + std::to_string(header) + " bytes goes beyond its " +
                  std::to_string(size) + " bytes");
  const size_t base = sizeof header + header;
  try {
    const auto text_of_header = map_range(file_->descriptor, path, sizeof header, header);
    const auto json = nlohmann::json::parse(text_of_header.get(), text_of_header.get() + header);
    for (const auto& [name, value] : json.items()) {
      if (name == "__metadata__") continue;
      const auto type = scalar_type(value.at("dtype"));
      if (type == torch::ScalarType::Undefined) continue;  // refused only where it is asked for
      const auto shape = value.at("shape").get<std::vector<int64_t>>();
      const auto range = value.at("data_offsets").get<std::vector<size_t>>();
      size_t count = 1;
      for (int64_t extent : shape) count *= size_t(extent);
      if (range.size() != 2 || range[1] < range[0] || range[1] - range[0] != count * torch::elementSize(type))
        throw foreign("tensor " + name + " does not have the size of its shape " + text(shape));
      if (range[1] > size - base)
        throw foreign("tensor " + name + " ends at byte " + std::to_string(base + range[1]) + " of " +
                      std::to_string(size));
      entries_[name] = {type, shape, base + range[0], range[1] - range[0]};
    }
  } catch (const nlohmann::json::exception& error) {
    throw foreign(error.what());
  }
}

std::vector<std::string> SafeTensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

torch::Tensor SafeTensors::get(const std::string& name, const std::vector<int64_t>& shape) const {
  const auto found = entries_.find(name);
  if (found == entries_.end())
    throw InputError(path_ + " has no tensor " + name + "; it does not fit the config.json beside it");
  const Entry& entry = found->second;
  if (entry.shape != shape)
    throw InputError(path_ + " holds " + name + " as " + text(entry.shape) + ", but config.json asks for " +
                     text(shape));
  if (!torch::isFloatingType(entry.type))
    throw InputError(path_ + " holds " + name + " as integers; the weights must be floating-point");
  auto data = map_range(file_->descriptor, path_, entry.begin, entry.bytes);
  const auto options = torch::dtype(entry.type);
  return torch::from_blob(
      const_cast<char*>(data.get()), shape, [keep = data](void*) mutable { keep.reset(); }, options);
}

}  // namespace pf2lora
