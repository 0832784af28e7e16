// The threads that a rank computes with.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace pf2lora::native {

// Threads that wait for work between calls: awake for a moment, as one call follows another within a step,
// then asleep. For one caller at a time.
class Team {
 public:
  // The calling thread is one of them. Throws std::system_error where the machine gives no more.
  explicit Team(int64_t threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int64_t threads() const { return int64_t(others_.size()) + 1; }

  // Calls part(i) for every i < parts <= threads(), each on a thread of its own, 0 on the caller's, and
  // returns when all have. They are not to throw.
  void run(int64_t parts, const std::function<void(int64_t)>& part);

 private:
  void work(int64_t number);

  const std::function<void(int64_t)>* part_ = nullptr;
  int64_t parts_ = 0;
  std::atomic<int64_t> calls_ = 0;  // made so far; negative: the end
  std::atomic<int64_t> busy_ = 0;   // others that have not finished the call
  std::vector<std::thread> others_;
};

}  // namespace pf2lora::native
