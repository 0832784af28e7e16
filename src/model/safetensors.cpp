#include "model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <torch/torch.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"

namespace pf2lora {
namespace {

std::shared_ptr<const char> map_file(const std::string& path, size_t& size) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0)
    throw InputError("cannot read " + path + " (" + std::strerror(errno) +
                     "); --model takes a directory with config.json and model.safetensors");
  struct stat status {};
  fstat(file, &status);
  size = size_t(status.st_size);
  void* data = size == 0 ? MAP_FAILED : mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (data == MAP_FAILED)
    throw InputError("cannot map " + path + ", which is " + std::to_string(size) + " bytes long");
  return {static_cast<const char*>(data), [size](const char* p) { munmap(const_cast<char*>(p), size); }};
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

SafeTensors::SafeTensors(const std::string& path) : path_(path) {
  size_t size = 0;
  data_ = map_file(path, size);
  const auto foreign = [&](const std::string& why) {
    return InputError(path + " is not a safetensors file or is truncated: " + why + "; fetch it again");
  };
  uint64_t header = 0;
  if (size < sizeof header) throw foreign("it is " + std::to_string(size) + " bytes long");
  std::memcpy(&header, data_.get(), sizeof header);
  if (header > size - sizeof header)
    throw foreign("its header of " + std::to_string(header) + " bytes goes beyond its " +
                  std::to_string(size) + " bytes");
  const size_t base = sizeof header + header;
  try {
    const auto json = nlohmann::json::parse(data_.get() + sizeof header, data_.get() + base);
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
      entries_[name] = {type, shape, base + range[0]};
    }
  } catch (const nlohmann::json::exception& error) {
    throw foreign(error.what());
  }
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
  return torch::from_blob(
      const_cast<char*>(data_.get()) + entry.begin, shape, [keep = data_](void*) mutable { keep.reset(); },
      torch::dtype(entry.type));
}

}  // namespace pf2lora
