// A directory for one test's files, removed at its end.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

namespace pf2lora {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "pf2lora_io_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary directory");
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The message of the E that `act` throws; a failure of the test when it throws none.
template <class E>
std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const E& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

// Microseconds that `act` takes, so that kills fall while it is at work on a fast and on a slow disk.
inline double duration_of(const std::function<void()>& act) {
  const auto start = std::chrono::steady_clock::now();
  act();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

// Runs `act` in a forked child, which ends with 0 when it returned and 1 when it threw.
inline pid_t in_child(const std::function<void()>& act) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  try {
    act();
    ::_exit(0);
  } catch (...) {
    ::_exit(1);
  }
}

// The wait status of a child, killed first when `kill` is set.
inline int end_of(pid_t child, bool kill = false) {
  if (kill) ::kill(child, SIGKILL);
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace pf2lora
