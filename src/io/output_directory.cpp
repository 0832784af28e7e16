#include "io/output_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/segments.h"

namespace pf2lora {
namespace {

namespace fs = std::filesystem;

std::string because() {
  return std::string(": ") + std::strerror(errno);
}

// The directory that exists on the way to `path`, nearest to it.
fs::path nearest_existing(fs::path path) {
  std::error_code ignored;
  path = fs::absolute(path, ignored).lexically_normal();
  while (!fs::exists(path, ignored) && path != path.parent_path()) path = path.parent_path();
  return path;
}

void require_writable(const fs::path& directory, const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(directory, ignored)) {
    throw OptionError("the output directory '" + path + "' cannot be made: '" + directory.string() +
                      "' is not a directory; choose another with --output");
  }
  if (::access(directory.c_str(), W_OK | X_OK) != 0) {
    throw OptionError("the output directory '" + path + "' cannot be written: '" + directory.string() + "'" +
                      because() + "; choose another with --output");
  }
}

OptionError in_use(const std::string& path, int lock) {
  std::array<char, 256> text{};
  const ssize_t length = ::pread(lock, text.data(), text.size() - 1, 0);
  std::string holder(text.data(), length > 0 ? static_cast<size_t>(length) : 0);
  while (!holder.empty() && holder.back() == '\n') holder.pop_back();
  return OptionError("the output directory '" + path + "' is in use by another run" +
                     (holder.empty() ? "" : " (" + holder + ")") +
                     "; wait until it has ended, or choose another directory with --output");
}

OptionError already_exists(const std::string& path) {
  return OptionError("the output directory '" + path +
                     "' exists; go on from its checkpoint with --resume, replace it with --overwrite, or "
                     "choose another with --output");
}

// Whether nothing stands in a directory but what a run writes before it has saved anything.
bool holds_nothing_saved(const OutputDirectory& directory) {
  std::error_code failure;
  for (fs::directory_iterator entry(directory.path(), failure), end; !failure && entry != end;
       entry.increment(failure)) {
    const std::string path = entry->path().string();
    if (path != directory.options() && path != partial_path(directory.options()) &&
        path != directory.lock_path())
      return false;
  }
  return !failure;
}

std::string this_process() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return "host " + std::string(host.data()) + ", process " + std::to_string(::getpid()) + "\n";
}

}  // namespace

OutputMode output_mode(bool resume, bool overwrite) {
  if (resume && overwrite) {
    throw OptionError("--resume and --overwrite exclude each other; give the one that is meant");
  }
  return resume ? OutputMode::resume : overwrite ? OutputMode::overwrite : OutputMode::fresh;
}

OutputDirectory::OutputDirectory(const std::string& path, OutputMode mode) : path_(path), mode_(mode) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  if (path_.empty()) throw OptionError("--output is empty; name a directory for the run's files");
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(path_, ignored))) {
    if (mode_ == OutputMode::resume) {
      throw OptionError("--resume: the output directory '" + path_ +
                        "' does not exist; check --output, or start a new run without --resume");
    }
    require_writable(nearest_existing(path_), path_);
    return;
  }
  if (!fs::is_directory(path_, ignored)) {
    throw OptionError("the output directory '" + path_ +
                      "' exists and is not a directory; choose another with "
                      "--output");
  }
  if (mode_ == OutputMode::fresh && !holds_nothing_saved(*this)) throw already_exists(path_);
  require_writable(path_, path_);
  if (mode_ == OutputMode::resume && !fs::exists(checkpoint(), ignored)) {
    if (!fs::exists(options(), ignored))
      throw OptionError("--resume: '" + path_ + "' is not the directory of a run; name that with --output");
    throw OptionError(
        "--resume: the run in '" + path_ +
        "' has saved no checkpoint yet (--checkpoint-every, --checkpoint-minutes); start it again with "
        "--overwrite");
  }
  // A look at the lock, so that a run that cannot start says so before its inputs are read.
  const int lock = ::open(lock_path().c_str(), O_RDWR | O_CLOEXEC);
  if (lock < 0) return;
  const bool busy = ::flock(lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  const OptionError error = in_use(path_, lock);
  ::close(lock);
  if (busy) throw error;
}

OutputDirectory::~OutputDirectory() {
  if (lock_ < 0) return;
  // Removed while it is still locked: a run that opened it before finds another file, or none, at its name.
  ::unlink(lock_path().c_str());
  ::close(lock_);
}

void OutputDirectory::create() {
  std::error_code failure;
  const fs::path parent = fs::path(path_).parent_path();
  if (!parent.empty()) fs::create_directories(parent, failure);
  const bool made = ::mkdir(path_.c_str(), 0777) == 0;
  if (made) {
    sync_parent_directory(path_);
  } else if (errno != EEXIST) {
    throw OptionError("the output directory '" + path_ + "' cannot be made" + because() +
                      "; choose another with --output");
  }
  take_lock();
  // Another run may have saved something since the check, or, where nothing is locked, be about to.
  if (mode_ == OutputMode::fresh && !made && (!locked_ || !holds_nothing_saved(*this)))
    throw already_exists(path_);
  if (mode_ == OutputMode::overwrite) remove_own_files();
}

bool OutputDirectory::holds_complete_run() const {
  std::error_code ignored;
  return fs::exists(results(), ignored) && list_segments(segments()).empty();
}

void OutputDirectory::take_lock() {
  for (;;) {
    const int lock = ::open(lock_path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0) {
      throw OptionError("the output directory '" + path_ + "' cannot be written" + because() +
                        "; choose another with --output");
    }
    if (::flock(lock, LOCK_EX | LOCK_NB) == 0) {
      struct stat held {
      }, named{};
      const bool same = ::fstat(lock, &held) == 0 && ::stat(lock_path().c_str(), &named) == 0 &&
                        held.st_ino == named.st_ino && held.st_dev == named.st_dev;
      if (!same) {  // its holder removed it between our open and our lock
        ::close(lock);
        continue;
      }
      locked_ = true;
    } else if (errno == EWOULDBLOCK) {
      const OptionError error = in_use(path_, lock);
      ::close(lock);
      throw error;
    }
    lock_ = lock;
    break;
  }
  const std::string holder = this_process();
  if (::ftruncate(lock_, 0) != 0 || ::pwrite(lock_, holder.data(), holder.size(), 0) < 0) {
    throw OptionError("the output directory '" + path_ + "' cannot be written" + because() +
                      "; choose another with --output");
  }
}

void OutputDirectory::remove_own_files() {
  // The checkpoint first: a removal that is cut short must not leave a run that looks resumable.
  for (const std::string& file : {checkpoint(), results(), adapters(), options()}) {
    std::error_code failure;
    fs::remove(file, failure);
    if (failure) {
      throw OptionError("--overwrite: cannot remove '" + file + "': " + failure.message() +
                        "; choose another directory with --output");
    }
    discard_partial(file);
  }
  remove_segment_files(segments());
  sync_directory(path_);
}

}  // namespace pf2lora
