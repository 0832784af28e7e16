#include "io/hdf5_handle.h"

#include <cstring>

namespace pf2lora::hdf5 {

std::string reason() {
  std::string text;
  const auto first = [](unsigned number, const H5E_error2_t* error, void* out) -> herr_t {
    if (number == 0 && error->desc != nullptr) *static_cast<std::string*>(out) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first, &text);
  // A failed system call has a long report of which its own message is what tells.
  const std::string start = "error message = '";
  if (const size_t at = text.find(start); at != std::string::npos) {
    text = text.substr(at + start.size());
    text = text.substr(0, text.find('\''));
  }
  return text.empty() ? "" : " (" + text + ")";
}

namespace {

std::string place(const std::string& path, const std::string& object) {
  return object == "/" ? "'" + path + "'" : "'" + object + "' of '" + path + "'";
}

}  // namespace

InputError read_failure(const std::string& path, const std::string& object) {
  return InputError("cannot read " + place(path, object) + reason() +
                    "; the file is damaged or not the one that is expected here");
}

Error write_failure(const std::string& path, const std::string& object) {
  return Error(ExitCode::internal_error, "cannot write " + place(path, object) + reason() +
                                             "; check the file system's free space and permissions");
}

Handle string_type() {
  Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, H5T_VARIABLE);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

std::vector<const char*> c_strings(std::span<const std::string> strings, const std::string& object) {
  std::vector<const char*> pointers;
  pointers.reserve(strings.size());
  for (const std::string& text : strings) {
    if (text.find('\0') != std::string::npos) {
      throw Error(ExitCode::internal_error,
                  "a string for '" + object + "' holds a zero byte: '" + text + "'");
    }
    pointers.push_back(text.c_str());
  }
  return pointers;
}

bool read_strings(hid_t stored, size_t count, const std::function<herr_t(hid_t, void*)>& read,
                  std::vector<std::string>& strings) {
  strings.clear();
  if (count == 0) return true;
  // HDF5 does not convert between character sets, so the memory type takes the stored one.
  const Handle memory(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_cset(memory, H5Tget_cset(stored));
  if (H5Tis_variable_str(stored) > 0) {
    H5Tset_size(memory, H5T_VARIABLE);
    std::vector<char*> pointers(count, nullptr);
    const bool good = read(memory, pointers.data()) >= 0;
    for (char* pointer : pointers) {
      if (good) strings.emplace_back(pointer == nullptr ? "" : pointer);
      H5free_memory(pointer);
    }
    return good;
  }
  const size_t size = H5Tget_size(stored);
  const H5T_str_t padding = H5Tget_strpad(stored);
  H5Tset_size(memory, size);
  H5Tset_strpad(memory, padding);
  std::vector<char> bytes(count * size);
  if (read(memory, bytes.data()) < 0) return false;
  for (size_t i = 0; i < count; ++i) {
    const char* text = bytes.data() + i * size;
    size_t length = ::strnlen(text, size);
    if (padding == H5T_STR_SPACEPAD) {
      while (length > 0 && text[length - 1] == ' ') --length;
    }
    strings.emplace_back(text, length);
  }
  return true;
}

Handle open_object(hid_t file, const std::string& path, const std::string& object) {
  Handle handle(H5Oopen(file, object.c_str(), H5P_DEFAULT), H5Oclose);
  if (!handle.valid()) throw read_failure(path, object);
  return handle;
}

Handle open_dataset(hid_t file, const std::string& path, const std::string& dataset) {
  Handle handle(H5Dopen2(file, dataset.c_str(), H5P_DEFAULT), H5Dclose);
  if (!handle.valid()) throw read_failure(path, dataset);
  return handle;
}

}  // namespace pf2lora::hdf5
