#include "core/cores.h"

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace pf2lora {
namespace {

std::vector<size_t> usable_threads() {
  std::vector<size_t> threads;
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (size_t thread = 0; thread < CPU_SETSIZE; ++thread)
      if (CPU_ISSET(thread, &set)) threads.push_back(thread);
    return threads;
  }
#endif
  for (size_t thread = 0; thread < std::max(1u, std::thread::hardware_concurrency()); ++thread)
    threads.push_back(thread);
  return threads;
}

// The first hardware thread of this one's core: it itself where the system does not say.
size_t core_of(size_t thread) {
  std::ifstream siblings("/sys/devices/system/cpu/cpu" + std::to_string(thread) +
                         "/topology/thread_siblings_list");
  size_t first = 0;
  return siblings >> first ? first : thread;
}

}  // namespace

Cores usable_cores() {
  Cores cores{};
  for (const size_t thread : usable_threads())
    if (const size_t core = core_of(thread); core < cores.size()) cores[core] = 1;
  return cores;
}

}  // namespace pf2lora
