// An HDF5 file without HDF5's own types, so that nobody outside this folder includes its header. Objects are
// named by their path in the file ("/", "options", "client/head/weight"); groups on the way are made as
// needed.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace pf2lora {

using Shape = std::vector<int64_t>;

// The number of values of a shape; an Error (exit 1) where a length is negative or the product does not fit.
int64_t product(const Shape& shape);

// What an attribute may hold; a bool is stored as an 8-bit integer 0 or 1.
using AttributeValue =
    std::variant<bool, int64_t, double, std::string, std::vector<std::string>, std::vector<double>>;
struct Attribute {
  std::string name;
  AttributeValue value;
};

// How a dataset lies in the file: contiguous; chunked with a checksum a chunk, so that damage is an error and
// never a number; chunked and deflated (contiguous where the library lacks the filter or it is not worth it).
enum class Storage { contiguous, checked, compressed };

// An open file. T is float, double, int8_t, uint8_t, int32_t or int64_t, and std::string (UTF-8, variable
// length) where whole datasets are written or read. Stored types are exactly T, little endian. What cannot be
// read is an InputError, what cannot be written an Error (exit 1); both name the file, the object and why.
class Hdf5File {
 public:
  static Hdf5File create(const std::string& path);  // replaces what stands there: see write_atomically
  static Hdf5File open(const std::string& path);    // read-only
  static Hdf5File open_for_writing(const std::string& path);  // an existing file
  Hdf5File(Hdf5File&& other) noexcept;
  Hdf5File& operator=(Hdf5File&& other) noexcept;
  ~Hdf5File();  // closes; call close() to learn of failures

  const std::string& path() const { return path_; }
  void flush();
  void close();  // flushes first; nothing but the destructor may follow

  void make_group(const std::string& group);
  bool exists(const std::string& object) const;
  std::vector<std::string> children(const std::string& group = "/") const;  // sorted by name
  Shape shape(const std::string& dataset) const;
  // Whether the stored type is exactly T (any byte order; a string of any kind for std::string).
  template <class T>
  bool holds(const std::string& dataset) const;

  // Writes a new dataset; {} is a scalar. The number of values must be the shape's product.
  template <class T>
  void write(const std::string& dataset, std::span<const T> values, const Shape& shape,
             Storage storage = Storage::contiguous);
  template <class T>
  void write(const std::string& dataset, const std::vector<T>& values) {
    write<T>(dataset, std::span<const T>(values), {static_cast<int64_t>(values.size())});
  }
  // All values in row-major order. A stored type other than T is an InputError: nothing is converted.
  template <class T>
  std::vector<T> read(const std::string& dataset) const;

  // Rows in a chunk of a chunked dataset: what is best written together. 1 for a contiguous one.
  int64_t chunk_rows(const std::string& dataset) const;

  // A dataset that is written and read by leading rows: shape {n, ...}; rows are slices along the first axis.
  template <class T>
  void create_rows(const std::string& dataset, const Shape& shape, Storage storage = Storage::contiguous);
  template <class T>
  void write_rows(const std::string& dataset, int64_t first_row, std::span<const T> values);
  template <class T>
  std::vector<T> read_rows(const std::string& dataset, int64_t first_row, int64_t rows) const;

  // Attributes of the file ("/"), a group or a dataset; an attribute that exists is replaced.
  void set_attribute(const std::string& object, const std::string& name, const AttributeValue& value);
  // The _FillValue attribute that xarray turns into NaN: one value of the dataset's own type.
  template <class T>
  void set_fill_attribute(const std::string& dataset, T value);
  bool has_attribute(const std::string& object, const std::string& name) const;
  std::vector<std::string> attribute_names(const std::string& object) const;  // sorted
  // T is bool, int64_t (from any integer), double (from any number), std::string or a vector of the last two.
  template <class T>
  T attribute(const std::string& object, const std::string& name) const;

  // HDF5 dimension scales: `make_scale` turns a 1-d dataset into the axis `name`; `attach_scale` says that
  // axis number `axis` of a dataset is that one.
  void make_scale(const std::string& dataset, const std::string& name);
  void attach_scale(const std::string& dataset, int axis, const std::string& scale);

 private:
  Hdf5File(std::string path, int64_t id) : path_(std::move(path)), id_(id) {}
  void create_dataset(const std::string& dataset, int64_t type, const Shape& shape, Storage storage,
                      size_t element_size);

  std::string path_;
  int64_t id_ = -1;  // HDF5's hid_t
};

// Runs `write` on a new file under a temporary name in the same directory, closes and fsyncs it, renames it
// to `path` and fsyncs the directory. A file that stands at `path` stays whole until the new one is complete,
// and for good when `write` throws.
void write_atomically(const std::string& path, const std::function<void(Hdf5File&)>& write);

// The version of the HDF5 library in use, for the provenance: "1.10.8".
std::string hdf5_version();

}  // namespace pf2lora
