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
  // The calling thread is one of them. Throws OptionError where the system gives fewer.
  explicit Team(int64_t threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int64_t threads() const { return int64_t(others_.size()) + 1; }

  // Calls part(i, thread) for every i < parts < 2^32, on whichever thread is free, of which the caller's is
  // 0, and returns when all parts have; a thread that comes too late for any is not waited for. Parts are not
  // to throw.
  using Part = std::function<void(int64_t i, int64_t thread)>;
  void run(int64_t parts, const Part& part);

 private:
  void end();
  void wait_for_work(int64_t thread);
  void take_parts(int64_t thread) noexcept;

  const Part* part_ = nullptr;
  // The number of the call, and in the lower half how many of its parts nobody has taken: so a thread that
  // comes late takes none of a call that it does not know.
  alignas(64) std::atomic<uint64_t> open_ = 0;
  alignas(64) std::atomic<int64_t> unfinished_ = 0;  // parts of the call
  alignas(64) std::atomic<int64_t> calls_ = 0;       // made so far; negative: the end
  std::vector<std::thread> others_;
};

}  // namespace pf2lora::native
