// GoogleTest's main under MPI: rank 0 reports, other ranks print failures only, all ranks exit with one code.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "comm/communicator.h"
#include "mpi_test.h"

namespace {

const pf2lora::Communicator* test_communicator = nullptr;

class FailurePrinter : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& test) override {
    name_ = std::string(test.test_suite_name()) + "." + test.name();
  }

  // GoogleTest holds its lock here: nothing of testing::UnitTest may be asked.
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d, %s: %s:%d: %s\n", test_communicator->rank(), name_.c_str(),
                 result.file_name() ? result.file_name() : "?", result.line_number(), result.message());
  }

  std::string name_ = "set-up";
};

}  // namespace

namespace pf2lora {
const Communicator& communicator() {
  return *test_communicator;
}
}  // namespace pf2lora

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  pf2lora::MpiSession session;
  const pf2lora::Communicator comm = session.communicator();
  test_communicator = &comm;
  // PF2LORA_TEST_RANKS, when set, is how many ranks must be here: so that a launcher that starts each rank as
  // a run of its own is noticed.
  const char* wanted = std::getenv("PF2LORA_TEST_RANKS");
  if (wanted && std::to_string(comm.size()) != wanted) {
    std::fprintf(stderr, "%d ranks are here and %s were wanted\n", comm.size(), wanted);
    return 1;
  }
  if (!comm.is_root()) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    delete listeners.Release(listeners.default_xml_generator());
    listeners.Append(new FailurePrinter);
  }
  int failed = 1;
  try {
    failed = RUN_ALL_TESTS();
  } catch (...) {
    comm.abort(1);
  }
  return comm.agree(failed != 0) ? 1 : 0;
}
