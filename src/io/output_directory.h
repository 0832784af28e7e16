// The directory of a run's files, and the lock that keeps a second run out of it.
#pragma once
#include <string>

namespace pf2lora {

// What to do where the directory exists: refuse (unless it holds no more than a run that ended before it had
// saved anything), go on from its checkpoint, or replace this program's files.
enum class OutputMode { fresh, resume, overwrite };

// `mode` of --resume and --overwrite; both at once is an OptionError.
OutputMode output_mode(bool resume, bool overwrite);

// Used on rank 0 alone. The constructor checks and creates nothing; `create` makes the directory and takes
// the lock, which is held until destruction (or the end of the process, however it comes). Both throw
// OptionError.
class OutputDirectory {
 public:
  OutputDirectory(const std::string& path, OutputMode mode);
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  // Takes the lock first; then, for `overwrite`, removes the files that this program writes there and no
  // others.
  void create();
  // False where the file system has no locks: the run goes on, and the caller may warn.
  bool locked() const { return locked_; }

  // Whether results.h5 was put together for good: it stands, and no segments beside it.
  bool holds_complete_run() const;

  const std::string& path() const { return path_; }
  std::string results() const { return path_ + "/results.h5"; }
  std::string adapters() const { return path_ + "/adapters.h5"; }
  std::string checkpoint() const { return path_ + "/checkpoint.h5"; }
  std::string options() const { return path_ + "/options.ini"; }
  std::string segments() const { return path_ + "/segments"; }
  std::string lock_path() const { return path_ + "/lock"; }

 private:
  void take_lock();
  void remove_own_files();

  std::string path_;
  OutputMode mode_;
  int lock_ = -1;
  bool locked_ = false;
};

}  // namespace pf2lora
