#include "core/stop_signal.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstring>
#include <sstream>

#include "core/error.h"

namespace pf2lora {
namespace {

struct StopSignal {
  int number;
  const char* name;
  int flags;
};

constexpr StopSignal stop_signals[] = {
    {SIGTERM, "SIGTERM", SA_RESTART},
    {SIGUSR1, "SIGUSR1", SA_RESTART},
    {SIGINT, "SIGINT", SA_RESTART | static_cast<int>(SA_RESETHAND)},  // the second one has its usual effect
};

std::atomic<int> first_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);  // what a handler may touch

extern "C" void remember_signal(int number) {
  int none = 0;
  first_signal.compare_exchange_strong(none, number);
}

}  // namespace

void install_stop_signals() {
  for (const StopSignal& signal : stop_signals) {
    struct sigaction action = {};
    action.sa_handler = remember_signal;
    action.sa_flags = signal.flags;
    sigemptyset(&action.sa_mask);
    if (sigaction(signal.number, &action, nullptr) != 0)
      throw Error(ExitCode::internal_error, std::string("no handler for ") + signal.name +
                                                " could be installed: " + std::strerror(errno));
  }
  // Beyond a limit on file sizes, writing then fails like on a full disk, and the run says so.
  std::signal(SIGXFSZ, SIG_IGN);
}

bool stop_requested() {
  return first_signal.load() != 0;
}

std::string stop_reason() {
  const int number = first_signal.load();
  for (const StopSignal& signal : stop_signals)
    if (signal.number == number) return std::string("signal ") + signal.name;
  return "";
}

void clear_stop_request() {
  first_signal = 0;
}

TimeLimit::TimeLimit(double max_hours) : max_hours_(max_hours) {
  if (!(max_hours >= 0) || !std::isfinite(max_hours))
    throw OptionError("max-hours is " + std::to_string(max_hours) +
                      "; give a positive number, or 0 for no limit");
}

void TimeLimit::round_took(double seconds) {
  longest_round_ = std::max(longest_round_, seconds);
}

void TimeLimit::saving_took(double seconds) {
  longest_saving_ = std::max(longest_saving_, seconds);
}

bool TimeLimit::next_round_would_pass(double elapsed) const {
  if (max_hours_ == 0) return false;
  const double limit = max_hours_ * 3600;
  return elapsed + 1.1 * longest_round_ + 2 * longest_saving_ > 0.99 * limit;
}

std::string TimeLimit::reason() const {
  std::ostringstream text;
  text << "--max-hours " << max_hours_;
  return text.str();
}

}  // namespace pf2lora
