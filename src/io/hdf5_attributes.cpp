// Attributes and dimension scales of Hdf5File.
#include <algorithm>

#include "io/hdf5_file.h"
#include "io/hdf5_handle.h"

namespace pf2lora {
namespace {

using hdf5::Handle;

std::string label(const std::string& object, const std::string& name) {
  return (object == "/" ? "" : object) + "@" + name;
}

Handle list_space(size_t count) {
  const hsize_t length = count;
  return Handle(H5Screate_simple(1, &length, nullptr), H5Sclose);
}

Handle scalar_space() {
  return Handle(H5Screate(H5S_SCALAR), H5Sclose);
}

// Creates the attribute and writes `data` unless it is null (a list without elements).
bool write_attribute(hid_t object, const std::string& name, hid_t stored, hid_t memory, hid_t space,
                     const void* data) {
  const Handle attribute(H5Acreate2(object, name.c_str(), stored, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  return attribute.valid() && (data == nullptr || H5Awrite(attribute, memory, data) >= 0);
}

bool write_value(hid_t object, const std::string& name, bool value) {
  const int8_t number = value ? 1 : 0;
  return write_attribute(object, name, H5T_STD_I8LE, H5T_NATIVE_INT8, scalar_space(), &number);
}
bool write_value(hid_t object, const std::string& name, int64_t value) {
  return write_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, scalar_space(), &value);
}
bool write_value(hid_t object, const std::string& name, double value) {
  return write_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, scalar_space(), &value);
}
bool write_value(hid_t object, const std::string& name, const std::vector<double>& values) {
  return write_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, list_space(values.size()),
                         values.empty() ? nullptr : values.data());
}
bool write_value(hid_t object, const std::string& name, const std::vector<std::string>& values) {
  const Handle type = hdf5::string_type();
  const std::vector<const char*> pointers = hdf5::c_strings(values, name);
  return write_attribute(object, name, type, type, list_space(values.size()),
                         values.empty() ? nullptr : pointers.data());
}
bool write_value(hid_t object, const std::string& name, const std::string& value) {
  const Handle type = hdf5::string_type();
  const std::vector<const char*> pointers = hdf5::c_strings(std::span(&value, 1), name);
  return write_attribute(object, name, type, type, scalar_space(), pointers.data());
}

// An open attribute with its type and number of elements.
struct OpenAttribute {
  Handle id, type;
  int64_t count;
  H5T_class_t kind;
};

OpenAttribute open_attribute(hid_t file, const std::string& path, const std::string& object,
                             const std::string& name) {
  const Handle parent = hdf5::open_object(file, path, object);
  if (H5Aexists(parent, name.c_str()) <= 0) {
    throw InputError("'" + path + "' has no attribute '" + label(object, name) +
                     "'; the file is not the one that is expected here");
  }
  Handle attribute(H5Aopen(parent, name.c_str(), H5P_DEFAULT), H5Aclose);
  if (!attribute.valid()) throw hdf5::read_failure(path, label(object, name));
  Handle type(H5Aget_type(attribute), H5Tclose);
  const Handle space(H5Aget_space(attribute), H5Sclose);
  const int64_t count = H5Sget_simple_extent_npoints(space);
  const H5T_class_t kind = H5Tget_class(type);
  return {std::move(attribute), std::move(type), count, kind};
}

InputError wrong_kind(const std::string& path, const std::string& name, const char* wanted) {
  return InputError("attribute '" + name + "' of '" + path + "' is not " + wanted +
                    "; the file is not the one that is expected here");
}

template <class T>
const char* kind_name() {
  if constexpr (std::is_same_v<T, bool>) return "a truth value (0 or 1)";
  if constexpr (std::is_same_v<T, int64_t>) return "an integer";
  if constexpr (std::is_same_v<T, double>) return "a number";
  if constexpr (std::is_same_v<T, std::string>) return "a text";
  if constexpr (std::is_same_v<T, std::vector<double>>) return "a list of numbers";
  return "a list of texts";
}

// Reads every element as E; false when the stored class is another or reading fails.
template <class E>
bool read_elements(const OpenAttribute& attribute, std::vector<E>& values) {
  if constexpr (std::is_same_v<E, std::string>) {
    const auto read = [&](hid_t type, void* buffer) { return H5Aread(attribute.id, type, buffer); };
    return attribute.kind == H5T_STRING &&
           hdf5::read_strings(attribute.type, static_cast<size_t>(attribute.count), read, values);
  } else {
    const bool fits =
        attribute.kind == H5T_INTEGER || (std::is_same_v<E, double> && attribute.kind == H5T_FLOAT);
    values.assign(static_cast<size_t>(attribute.count), E{});
    return fits && (values.empty() || H5Aread(attribute.id, hdf5::memory_type<E>(), values.data()) >= 0);
  }
}

}  // namespace

void Hdf5File::set_attribute(const std::string& object, const std::string& name,
                             const AttributeValue& value) {
  const Handle parent = hdf5::open_object(id_, path_, object);
  if (H5Aexists(parent, name.c_str()) > 0) H5Adelete(parent, name.c_str());
  if (!std::visit([&](const auto& v) { return write_value(parent, name, v); }, value)) {
    throw hdf5::write_failure(path_, label(object, name));
  }
}

template <class T>
void Hdf5File::set_fill_attribute(const std::string& dataset, T value) {
  const Handle parent = hdf5::open_dataset(id_, path_, dataset);
  if (!write_attribute(parent, "_FillValue", hdf5::stored_type<T>(), hdf5::memory_type<T>(), scalar_space(),
                       &value)) {
    throw hdf5::write_failure(path_, label(dataset, "_FillValue"));
  }
}

bool Hdf5File::has_attribute(const std::string& object, const std::string& name) const {
  return H5Aexists(hdf5::open_object(id_, path_, object), name.c_str()) > 0;
}

std::vector<std::string> Hdf5File::attribute_names(const std::string& object) const {
  std::vector<std::string> names;
  const auto add = [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  const Handle parent = hdf5::open_object(id_, path_, object);
  if (H5Aiterate2(parent, H5_INDEX_NAME, H5_ITER_INC, nullptr, add, &names) < 0) {
    throw hdf5::read_failure(path_, object);
  }
  std::sort(names.begin(), names.end());
  return names;
}

template <class T>
T Hdf5File::attribute(const std::string& object, const std::string& name) const {
  const OpenAttribute attribute = open_attribute(id_, path_, object, name);
  if constexpr (std::is_same_v<T, std::vector<double>> || std::is_same_v<T, std::vector<std::string>>) {
    T values;
    if (!read_elements(attribute, values)) throw wrong_kind(path_, label(object, name), kind_name<T>());
    return values;
  } else {
    using Element = std::conditional_t<std::is_same_v<T, bool>, int64_t, T>;
    std::vector<Element> values;
    if (attribute.count != 1 || !read_elements(attribute, values)) {
      throw wrong_kind(path_, label(object, name), kind_name<T>());
    }
    if constexpr (std::is_same_v<T, bool>) {
      if (values[0] != 0 && values[0] != 1) throw wrong_kind(path_, label(object, name), kind_name<T>());
    }
    return static_cast<T>(values[0]);
  }
}

void Hdf5File::make_scale(const std::string& dataset, const std::string& name) {
  if (H5DSset_scale(hdf5::open_dataset(id_, path_, dataset), name.c_str()) < 0) {
    throw hdf5::write_failure(path_, dataset);
  }
}

void Hdf5File::attach_scale(const std::string& dataset, int axis, const std::string& scale) {
  const Handle object = hdf5::open_dataset(id_, path_, dataset);
  const Handle axis_scale = hdf5::open_dataset(id_, path_, scale);
  if (H5DSattach_scale(object, axis_scale, static_cast<unsigned>(axis)) < 0) {
    throw hdf5::write_failure(path_, dataset);
  }
}

template bool Hdf5File::attribute<bool>(const std::string&, const std::string&) const;
template int64_t Hdf5File::attribute<int64_t>(const std::string&, const std::string&) const;
template double Hdf5File::attribute<double>(const std::string&, const std::string&) const;
template std::string Hdf5File::attribute<std::string>(const std::string&, const std::string&) const;
template std::vector<double> Hdf5File::attribute<std::vector<double>>(const std::string&,
                                                                      const std::string&) const;
template std::vector<std::string> Hdf5File::attribute<std::vector<std::string>>(const std::string&,
                                                                                const std::string&) const;
template void Hdf5File::set_fill_attribute<int32_t>(const std::string&, int32_t);
template void Hdf5File::set_fill_attribute<int64_t>(const std::string&, int64_t);

}  // namespace pf2lora
