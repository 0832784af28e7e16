#include "native/team.h"

#include <string>
#include <system_error>

#include "core/error.h"

namespace pf2lora::native {
namespace {

// Waits until the number is no longer `old`, which it returns.
int64_t changed(const std::atomic<int64_t>& number, int64_t old) {
  constexpr int kAwake = 200;  // turns, some 0.1 ms
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
  } catch (const std::system_error& error) {
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
  part_ = &part;
  parts_ = parts;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(int64_t(others_.size()), std::memory_order_relaxed);
  calls_.fetch_add(1, std::memory_order_release);
  calls_.notify_all();
  take_parts(0);
  for (int64_t busy = busy_.load(std::memory_order_acquire); busy > 0;) busy = changed(busy_, busy);
}

void Team::wait_for_work(int64_t thread) {
  for (int64_t calls = 0;;) {
    calls = changed(calls_, calls);
    if (calls < 0) return;
    take_parts(thread);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
  }
}

void Team::take_parts(int64_t thread) {
  for (;;) {
    const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
    if (i >= parts_) return;
    (*part_)(i, thread);
  }
}

}  // namespace pf2lora::native
