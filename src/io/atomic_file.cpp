#include "io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace pf2lora {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }
  int close() {
    const int number = number_;
    number_ = -1;
    return ::close(number);
  }

 private:
  int number_;
};

Error cannot(const std::string& what, const std::string& path) {
  return Error(ExitCode::internal_error, "cannot " + what + " '" + path + "': " + std::strerror(errno) +
                                             "; check the file system's free space and permissions");
}

void sync_file(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.number() < 0 || ::fsync(file.number()) != 0) throw cannot("write to disk", path);
}

}  // namespace

std::string partial_path(const std::string& path) {
  return path + ".partial";
}

void sync_directory(const std::string& directory) {
  const Descriptor folder(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.number() < 0) throw cannot("open the directory", directory);
  // Some network file systems cannot fsync a directory; there the rename itself is all that can be had.
  if (::fsync(folder.number()) != 0 && errno != EINVAL && errno != ENOTSUP) {
    throw cannot("write to disk the directory", directory);
  }
}

void sync_parent_directory(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  sync_directory(parent.empty() ? "." : parent);
}

void commit_partial(const std::string& path) {
  const std::string partial = partial_path(path);
  sync_file(partial);
  if (std::rename(partial.c_str(), path.c_str()) != 0) throw cannot("rename '" + partial + "' to", path);
  sync_parent_directory(path);
}

void discard_partial(const std::string& path) noexcept {
  ::unlink(partial_path(path).c_str());
}

void write_text_atomically(const std::string& path, const std::string& text) {
  const std::string partial = partial_path(path);
  try {
    Descriptor file(::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (file.number() < 0) throw cannot("create", partial);
    for (size_t done = 0; done < text.size();) {
      const ssize_t count = ::write(file.number(), text.data() + done, text.size() - done);
      if (count < 0 && errno != EINTR) throw cannot("write", partial);
      if (count > 0) done += static_cast<size_t>(count);
    }
    if (file.close() != 0) throw cannot("write", partial);
    commit_partial(path);
  } catch (...) {
    discard_partial(path);
    throw;
  }
}

}  // namespace pf2lora
