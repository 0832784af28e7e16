#include "io/hdf5_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "io/atomic_file.h"
#include "io/hdf5_handle.h"

namespace pf2lora {
namespace {

using hdf5::Handle;

constexpr int64_t kCompressedChunk = 512 * 1024;  // bytes; half of HDF5's chunk cache
constexpr int64_t kCheckedChunk = 64 * 1024;      // bytes; small, since rows of checkpoints come one by one
constexpr int64_t kWorthCompressing = 64 * 1024;  // bytes of a dataset

// Before the first call: HDF5 must not clean up at exit, where a file that could not be written for want of
// space crashes it; every Hdf5File closes itself. Failures become exceptions that carry the reason, so HDF5
// need not print its stack (a setting per thread).
void prepare_library() {
  H5dont_atexit();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Handle access_properties() {
  Handle properties(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(properties, H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7)
  // Network file systems without locks must do; the lock of the output directory is what keeps writers apart.
  H5Pset_file_locking(properties, false, true);
#endif
  return properties;
}

Handle make_space(const Shape& shape) {
  if (shape.empty()) return Handle(H5Screate(H5S_SCALAR), H5Sclose);
  const std::vector<hsize_t> lengths(shape.begin(), shape.end());
  return Handle(H5Screate_simple(static_cast<int>(lengths.size()), lengths.data(), nullptr), H5Sclose);
}

// Halves axes from the first on until a chunk fits.
std::vector<hsize_t> chunk_of(const Shape& shape, int64_t element_size, int64_t limit) {
  std::vector<hsize_t> chunk(shape.begin(), shape.end());
  int64_t bytes = product(shape) * element_size;
  for (hsize_t& length : chunk) {
    while (length > 1 && bytes > limit) {
      const auto shorter = (length + 1) / 2;
      bytes = bytes / static_cast<int64_t>(length) * static_cast<int64_t>(shorter);
      length = shorter;
    }
  }
  return chunk;
}

template <class T>
bool has_type(hid_t stored) {
  if constexpr (std::is_same_v<T, std::string>) {
    return H5Tget_class(stored) == H5T_STRING;
  } else {
    const hid_t wanted = hdf5::memory_type<T>();
    return H5Tget_class(stored) == H5Tget_class(wanted) && H5Tget_size(stored) == H5Tget_size(wanted) &&
           (std::is_floating_point_v<T> || H5Tget_sign(stored) == H5Tget_sign(wanted));
  }
}

template <class T>
void require_type(hid_t dataset, const std::string& path, const std::string& name) {
  const Handle stored(H5Dget_type(dataset), H5Tclose);
  if (!has_type<T>(stored)) {
    throw InputError("'" + name + "' of '" + path + "' is not stored as " + hdf5::type_name<T>() +
                     "; the file is not the one that is expected here, or must be made again");
  }
}

Shape shape_of(hid_t dataset) {
  const Handle space(H5Dget_space(dataset), H5Sclose);
  const int axes = H5Sget_simple_extent_ndims(space);
  std::vector<hsize_t> lengths(static_cast<size_t>(std::max(axes, 0)));
  H5Sget_simple_extent_dims(space, lengths.data(), nullptr);
  return Shape(lengths.begin(), lengths.end());
}

// A vector for what a file claims to hold; absurd claims of a damaged file are an InputError.
template <class T>
std::vector<T> allocate(int64_t count, const std::string& path, const std::string& name) {
  try {
    return std::vector<T>(static_cast<size_t>(count));
  } catch (const std::exception&) {
    throw InputError("'" + name + "' of '" + path + "' says that it holds " + std::to_string(count) +
                     " values, more than memory can take; the file is damaged or for another machine");
  }
}

// The rows [first_row, first_row + rows) of a dataset, selected in its space.
Handle select_rows(hid_t dataset, const Shape& shape, int64_t first_row, int64_t rows) {
  Handle space(H5Dget_space(dataset), H5Sclose);
  std::vector<hsize_t> start(shape.size(), 0), count(shape.begin(), shape.end());
  start[0] = static_cast<hsize_t>(first_row);
  count[0] = static_cast<hsize_t>(rows);
  H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
  return space;
}

int64_t row_length(const Shape& shape) {
  return product(Shape(shape.begin() + 1, shape.end()));
}

}  // namespace

int64_t product(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t length : shape) {
    if (length < 0 || __builtin_mul_overflow(count, length, &count)) {
      throw Error(ExitCode::internal_error,
                  "a dataset's axis of " + std::to_string(length) + " cannot be stored");
    }
  }
  return count;
}

Hdf5File Hdf5File::create(const std::string& path) {
  prepare_library();
  const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_link_creation_order(creation, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  const Handle access = access_properties();
  const hid_t id = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access);
  if (id < 0) {
    throw Error(ExitCode::internal_error,
                "cannot create the file '" + path + "'" + hdf5::reason() +
                    "; check that its directory exists, can be written and has free space");
  }
  return Hdf5File(path, id);
}

namespace {

int64_t open_existing(const std::string& path, unsigned mode) {
  prepare_library();
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw InputError("'" + path + "' cannot be opened: " + std::strerror(errno) + "; check the path");
  }
  if (!S_ISREG(status.st_mode)) throw InputError("'" + path + "' is not a file; name an HDF5 file");
  if (::access(path.c_str(), mode == H5F_ACC_RDONLY ? R_OK : R_OK | W_OK) != 0) {
    throw InputError("'" + path + "' cannot be opened: " + std::strerror(errno) + "; check its permissions");
  }
  if (H5Fis_hdf5(path.c_str()) <= 0) {
    throw InputError("'" + path +
                     "' is not an HDF5 file, or its beginning is damaged; name another file or " +
                     "make it again");
  }
  const Handle access = access_properties();
  const hid_t id = H5Fopen(path.c_str(), mode, access);
  if (id < 0) {
    throw InputError("'" + path + "' is truncated or damaged" + hdf5::reason() +
                     "; copy it again from where it is whole, or make it anew");
  }
  return id;
}

}  // namespace

Hdf5File Hdf5File::open(const std::string& path) {
  return Hdf5File(path, open_existing(path, H5F_ACC_RDONLY));
}

Hdf5File Hdf5File::open_for_writing(const std::string& path) {
  return Hdf5File(path, open_existing(path, H5F_ACC_RDWR));
}

Hdf5File::Hdf5File(Hdf5File&& other) noexcept
    : path_(std::move(other.path_)), id_(std::exchange(other.id_, -1)) {}

Hdf5File& Hdf5File::operator=(Hdf5File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(id_, other.id_);
  return *this;
}

Hdf5File::~Hdf5File() {
  if (id_ >= 0) H5Fclose(id_);
}

void Hdf5File::flush() {
  if (H5Fflush(id_, H5F_SCOPE_GLOBAL) < 0) throw hdf5::write_failure(path_, "/");
}

void Hdf5File::close() {
  if (id_ < 0) return;
  unsigned mode = H5F_ACC_RDONLY;
  H5Fget_intent(id_, &mode);
  if (mode != H5F_ACC_RDONLY) flush();
  if (H5Fclose(std::exchange(id_, -1)) < 0) throw hdf5::write_failure(path_, "/");
}

void Hdf5File::make_group(const std::string& group) {
  if (exists(group)) return;
  const Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links, 1);
  const Handle made(H5Gcreate2(id_, group.c_str(), links, H5P_DEFAULT, H5P_DEFAULT), H5Gclose);
  if (!made.valid()) throw hdf5::write_failure(path_, group);
}

bool Hdf5File::exists(const std::string& object) const {
  // H5Lexists looks at the last name only, so every group on the way is asked for.
  for (size_t end = 0; end != std::string::npos;) {
    end = object.find('/', end + 1);
    const std::string part = object.substr(0, end);
    if (part.empty() || part == "/") continue;
    if (H5Lexists(id_, part.c_str(), H5P_DEFAULT) <= 0) return false;
  }
  return true;
}

std::vector<std::string> Hdf5File::children(const std::string& group) const {
  const Handle object = hdf5::open_object(id_, path_, group);
  std::vector<std::string> names;
  const auto add = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  if (H5Literate(object, H5_INDEX_NAME, H5_ITER_INC, nullptr, add, &names) < 0) {
    throw hdf5::read_failure(path_, group);
  }
  return names;
}

Shape Hdf5File::shape(const std::string& dataset) const {
  return shape_of(hdf5::open_dataset(id_, path_, dataset));
}

template <class T>
bool Hdf5File::holds(const std::string& dataset) const {
  const Handle object = hdf5::open_dataset(id_, path_, dataset);
  return has_type<T>(Handle(H5Dget_type(object), H5Tclose));
}

void Hdf5File::create_dataset(const std::string& dataset, int64_t type, const Shape& shape, Storage storage,
                              size_t element_size) {
  const int64_t size = static_cast<int64_t>(element_size);
  const int64_t bytes = product(shape) * size;
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation, false);  // equal contents give equal files
  const bool deflates = H5Zfilter_avail(H5Z_FILTER_DEFLATE) > 0 && bytes >= kWorthCompressing;
  const bool checks = H5Zfilter_avail(H5Z_FILTER_FLETCHER32) > 0;
  if (!shape.empty() && bytes > 0 &&
      ((storage == Storage::compressed && deflates) || (storage == Storage::checked && checks))) {
    const std::vector<hsize_t> chunk =
        chunk_of(shape, size, storage == Storage::compressed ? kCompressedChunk : kCheckedChunk);
    H5Pset_chunk(creation, static_cast<int>(chunk.size()), chunk.data());
    if (storage == Storage::compressed) {
      H5Pset_shuffle(creation);
      H5Pset_deflate(creation, 4);
    } else {
      H5Pset_fletcher32(creation);
    }
  }
  const Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links, 1);
  const Handle space = make_space(shape);
  const Handle made(H5Dcreate2(id_, dataset.c_str(), type, space, links, creation, H5P_DEFAULT), H5Dclose);
  if (!made.valid()) throw hdf5::write_failure(path_, dataset);
}

template <class T>
void Hdf5File::write(const std::string& dataset, std::span<const T> values, const Shape& shape,
                     Storage storage) {
  if (static_cast<int64_t>(values.size()) != product(shape)) {
    throw Error(ExitCode::internal_error, "'" + dataset + "' of '" + path_ + "' was given " +
                                              std::to_string(values.size()) + " values for a shape of " +
                                              std::to_string(product(shape)));
  }
  if constexpr (std::is_same_v<T, std::string>) {
    const Handle type = hdf5::string_type();
    create_dataset(dataset, type, shape, Storage::contiguous, sizeof(char*));
    const std::vector<const char*> pointers = hdf5::c_strings(values, dataset);
    const Handle object = hdf5::open_dataset(id_, path_, dataset);
    if (!values.empty() && H5Dwrite(object, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()) < 0) {
      throw hdf5::write_failure(path_, dataset);
    }
  } else {
    create_dataset(dataset, hdf5::stored_type<T>(), shape, storage, sizeof(T));
    const Handle object = hdf5::open_dataset(id_, path_, dataset);
    if (!values.empty() &&
        H5Dwrite(object, hdf5::memory_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0) {
      throw hdf5::write_failure(path_, dataset);
    }
  }
}

template <class T>
std::vector<T> Hdf5File::read(const std::string& dataset) const {
  const Handle object = hdf5::open_dataset(id_, path_, dataset);
  require_type<T>(object, path_, dataset);
  const Handle space(H5Dget_space(object), H5Sclose);
  const int64_t count = H5Sget_simple_extent_npoints(space);
  if (count < 0) throw hdf5::read_failure(path_, dataset);
  if constexpr (std::is_same_v<T, std::string>) {
    const Handle stored(H5Dget_type(object), H5Tclose);
    std::vector<std::string> strings;
    const auto reader = [&](hid_t type, void* buffer) {
      return H5Dread(object, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer);
    };
    bool good = false;
    try {
      good = hdf5::read_strings(stored, static_cast<size_t>(count), reader, strings);
    } catch (const std::bad_alloc&) {
    }
    if (!good) throw hdf5::read_failure(path_, dataset);
    return strings;
  } else {
    std::vector<T> values = allocate<T>(count, path_, dataset);
    if (count > 0 &&
        H5Dread(object, hdf5::memory_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0) {
      throw hdf5::read_failure(path_, dataset);
    }
    return values;
  }
}

int64_t Hdf5File::chunk_rows(const std::string& dataset) const {
  const Handle object = hdf5::open_dataset(id_, path_, dataset);
  const Handle creation(H5Dget_create_plist(object), H5Pclose);
  std::vector<hsize_t> chunk(H5S_MAX_RANK, 1);
  if (H5Pget_layout(creation) != H5D_CHUNKED) return 1;
  H5Pget_chunk(creation, H5S_MAX_RANK, chunk.data());
  return static_cast<int64_t>(chunk[0]);
}

template <class T>
void Hdf5File::create_rows(const std::string& dataset, const Shape& shape, Storage storage) {
  if (shape.empty()) throw Error(ExitCode::internal_error, "'" + dataset + "' has no axis of rows");
  create_dataset(dataset, hdf5::stored_type<T>(), shape, storage, sizeof(T));
}

template <class T>
void Hdf5File::write_rows(const std::string& dataset, int64_t first_row, std::span<const T> values) {
  if (values.empty()) return;
  const Handle object = hdf5::open_dataset(id_, path_, dataset);
  require_type<T>(object, path_, dataset);
  const Shape shape = shape_of(object);
  const int64_t length = shape.empty() ? 0 : row_length(shape);
  const int64_t count = static_cast<int64_t>(values.size());
  if (length == 0 || count % length != 0 || first_row < 0 || first_row + count / length > shape[0]) {
    throw Error(ExitCode::internal_error, std::to_string(count) + " values from row " +
                                              std::to_string(first_row) + " on do not fit into '" + dataset +
                                              "' of '" + path_ + "' with rows of " + std::to_string(length));
  }
  const Handle target = select_rows(object, shape, first_row, count / length);
  const Handle source = make_space({count});
  if (H5Dwrite(object, hdf5::memory_type<T>(), source, target, H5P_DEFAULT, values.data()) < 0) {
    throw hdf5::write_failure(path_, dataset);
  }
}

template <class T>
std::vector<T> Hdf5File::read_rows(const std::string& dataset, int64_t first_row, int64_t rows) const {
  const Handle object = hdf5::open_dataset(id_, path_, dataset);
  require_type<T>(object, path_, dataset);
  const Shape shape = shape_of(object);
  if (shape.empty() || first_row < 0 || rows < 0 || first_row + rows > shape[0]) {
    throw InputError("'" + dataset + "' of '" + path_ + "' has no rows " + std::to_string(first_row) +
                     " to " + std::to_string(first_row + rows) +
                     "; the file is not the one that is expected here");
  }
  const int64_t count = rows * row_length(shape);
  std::vector<T> values = allocate<T>(count, path_, dataset);
  if (count == 0) return values;
  const Handle source = select_rows(object, shape, first_row, rows);
  const Handle target = make_space({count});
  if (H5Dread(object, hdf5::memory_type<T>(), target, source, H5P_DEFAULT, values.data()) < 0) {
    throw hdf5::read_failure(path_, dataset);
  }
  return values;
}

#define PF2LORA_WHOLE(T)                                                                           \
  template bool Hdf5File::holds<T>(const std::string&) const;                                      \
  template void Hdf5File::write<T>(const std::string&, std::span<const T>, const Shape&, Storage); \
  template std::vector<T> Hdf5File::read<T>(const std::string&) const;
#define PF2LORA_ROWS(T)                                                                   \
  PF2LORA_WHOLE(T)                                                                        \
  template void Hdf5File::create_rows<T>(const std::string&, const Shape&, Storage);      \
  template void Hdf5File::write_rows<T>(const std::string&, int64_t, std::span<const T>); \
  template std::vector<T> Hdf5File::read_rows<T>(const std::string&, int64_t, int64_t) const;
PF2LORA_WHOLE(std::string)
PF2LORA_ROWS(double)
PF2LORA_ROWS(float)
PF2LORA_ROWS(int8_t)
PF2LORA_ROWS(uint8_t)
PF2LORA_ROWS(int32_t)
PF2LORA_ROWS(int64_t)
#undef PF2LORA_ROWS
#undef PF2LORA_WHOLE

void write_atomically(const std::string& path, const std::function<void(Hdf5File&)>& write) {
  try {
    Hdf5File file = Hdf5File::create(partial_path(path));
    write(file);
    file.close();
    commit_partial(path);
  } catch (...) {
    discard_partial(path);
    throw;
  }
}

std::string hdf5_version() {
  prepare_library();
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

}  // namespace pf2lora
