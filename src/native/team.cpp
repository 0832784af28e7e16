#include "native/team.h"

#include <exception>
#include <string>

#include "core/error.h"

namespace pf2lora::native {
namespace {

constexpr int kHalf = 32;
constexpr uint64_t kParts = (uint64_t{1} << kHalf) - 1;

// Waits until the number is no longer `old`, which it returns.
int64_t changed(const std::atomic<int64_t>& number, int64_t old) {
  constexpr int kAwake = 200;  // turns, some 0.1 ms where a core is free
  int64_t now = number.load(std::memory_order_acquire);
  for (int i = 0; i < kAwake && now == old; ++i) {
    std::this_thread::yield();
    now = number.load(std::memory_order_acquire);
  }
  while (now == old) {
    number.wait(old, std::memory_order_acquire);
    now = number.load(std::memory_order_acquire);
  }
  return now;
}

}  // namespace

Team::Team(int64_t threads) {
  try {
    for (int64_t i = 1; i < threads; ++i) others_.emplace_back([this, i] { wait_for_work(i); });
  } catch (const std::exception& error) {
    const int64_t found = this->threads();
    end();
    throw OptionError("--threads " + std::to_string(threads) + ": this process may have " +
                      std::to_string(found) + " (" + error.what() + "); lower it");
  }
}

Team::~Team() {
  end();
}

void Team::end() {
  calls_.store(-1, std::memory_order_release);
  calls_.notify_all();
  for (std::thread& other : others_) other.join();
}

void Team::run(int64_t parts, const Part& part) {
  const int64_t call = calls_.load(std::memory_order_relaxed) + 1;
  part_ = &part;
  unfinished_.store(parts, std::memory_order_relaxed);
  open_.store(uint64_t(call) << kHalf | uint64_t(parts), std::memory_order_release);
  calls_.store(call, std::memory_order_release);
  calls_.notify_all();
  take_parts(0);
  for (int64_t left = unfinished_.load(std::memory_order_acquire); left > 0;)
    left = changed(unfinished_, left);
}

void Team::wait_for_work(int64_t thread) {
  for (int64_t calls = 0; (calls = changed(calls_, calls)) >= 0;) take_parts(thread);
}

void Team::take_parts(int64_t thread) noexcept {
  uint64_t open = open_.load(std::memory_order_acquire);
  while ((open & kParts) > 0) {
    if (!open_.compare_exchange_weak(open, open - 1, std::memory_order_acq_rel, std::memory_order_acquire))
      continue;
    (*part_)(int64_t(open & kParts) - 1, thread);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
    open = open_.load(std::memory_order_acquire);
  }
}

}  // namespace pf2lora::native
