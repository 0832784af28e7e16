// Private to src/io: HDF5 identifiers that close themselves, stored types, and failures with HDF5's reason.
#pragma once
#include <hdf5.h>
#include <hdf5_hl.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/error.h"

namespace pf2lora::hdf5 {

static_assert(std::is_same_v<hid_t, int64_t>, "HDF5 1.10 or newer is needed");

// An identifier and the function that closes it.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  bool valid() const { return id_ >= 0; }
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

// The innermost entry of HDF5's error stack: " (reason)", or nothing. To be asked before any further call.
std::string reason();

// "cannot read 'object' of 'path' (reason)", and the same for writing; "/" is the file as a whole.
InputError read_failure(const std::string& path, const std::string& object);
Error write_failure(const std::string& path, const std::string& object);

// The in-memory type of T and the little-endian type that it is stored as; T is an int of 8, 32 or 64 bits,
// uint8_t, float or double.
template <class T>
hid_t memory_type() {
  if constexpr (std::is_same_v<T, double>) return H5T_NATIVE_DOUBLE;
  if constexpr (std::is_same_v<T, float>) return H5T_NATIVE_FLOAT;
  if constexpr (std::is_same_v<T, int8_t>) return H5T_NATIVE_INT8;
  if constexpr (std::is_same_v<T, uint8_t>) return H5T_NATIVE_UINT8;
  if constexpr (std::is_same_v<T, int32_t>) return H5T_NATIVE_INT32;
  if constexpr (std::is_same_v<T, int64_t>) return H5T_NATIVE_INT64;
}
template <class T>
hid_t stored_type() {
  if constexpr (std::is_same_v<T, double>) return H5T_IEEE_F64LE;
  if constexpr (std::is_same_v<T, float>) return H5T_IEEE_F32LE;
  if constexpr (std::is_same_v<T, int8_t>) return H5T_STD_I8LE;
  if constexpr (std::is_same_v<T, uint8_t>) return H5T_STD_U8LE;
  if constexpr (std::is_same_v<T, int32_t>) return H5T_STD_I32LE;
  if constexpr (std::is_same_v<T, int64_t>) return H5T_STD_I64LE;
}
template <class T>
const char* type_name() {
  if constexpr (std::is_same_v<T, double>) return "float64";
  if constexpr (std::is_same_v<T, float>) return "float32";
  if constexpr (std::is_same_v<T, int8_t>) return "int8";
  if constexpr (std::is_same_v<T, uint8_t>) return "uint8";
  if constexpr (std::is_same_v<T, int32_t>) return "int32";
  if constexpr (std::is_same_v<T, int64_t>) return "int64";
  return "text";
}

// The UTF-8 string type of variable length that strings are stored as.
Handle string_type();

// Pointers into the strings, for writing; a string with a zero byte cannot be stored and is an Error.
std::vector<const char*> c_strings(std::span<const std::string> strings, const std::string& object);

// `count` strings of the stored type (of fixed or variable length) by `read(memory type, buffer)`; false when
// that fails.
bool read_strings(hid_t stored, size_t count, const std::function<herr_t(hid_t, void*)>& read,
                  std::vector<std::string>& strings);

// Opens a group ("/" is the root) or dataset; a missing one is an InputError.
Handle open_object(hid_t file, const std::string& path, const std::string& object);
Handle open_dataset(hid_t file, const std::string& path, const std::string& dataset);

}  // namespace pf2lora::hdf5
