// Started by exit_code_test.sh: fails on the last rank alone, the way that main does it, and leaves with that
// error's exit code on all ranks.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "comm/communicator.h"

using namespace pf2lora;

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "";
  const MpiSession session;
  const Communicator& comm = session.communicator();
  const bool failing = comm.rank() == comm.size() - 1;
  try {
    if (std::strcmp(how, "together") == 0) {
      comm.together([&] {
        if (failing) throw InputError("the file is missing");
      });
    } else {
      if (failing) throw NumericalError("outside together");
      comm.agree(false);  // the others wait here
      std::this_thread::sleep_for(std::chrono::seconds(60));
    }
  } catch (const AgreedError& error) {
    if (comm.is_root()) std::fprintf(stderr, "error: %s\n", error.what());
    return static_cast<int>(error.code());
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    comm.abort(static_cast<int>(error.code()));
  }
  return 0;
}
