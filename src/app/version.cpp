#include "app/version.h"

#include <torch/types.h>
#include <torch/version.h>

#include <boost/version.hpp>
#include <fstream>
#include <ostream>

#include "comm/communicator.h"
#include "core/clock.h"

namespace pf2lora {
namespace {

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace

void print_version(std::ostream& out) {
  out << "pf2lora " << PF2LORA_VERSION << " (commit " << PF2LORA_COMMIT << ")\n"
      << "LibTorch " << TORCH_VERSION << "\n"
      << mpi_library_version() << "\n"
      << "HDF5 " << hdf5_version() << "\n"
      << "Boost " << BOOST_VERSION / 100000 << "." << BOOST_VERSION / 100 % 1000 << "." << BOOST_VERSION % 100
      << "\n";
}

std::vector<Attribute> program_provenance(const std::string& command_line) {
  return {{"program", std::string("pf2lora")},
          {"program_version", std::string(PF2LORA_VERSION)},
          {"git_commit", std::string(PF2LORA_COMMIT)},
          {"command_line", command_line},
          {"start_utc", utc_now()},
          {"libtorch_version", std::string(TORCH_VERSION)},
          {"mpi_version", mpi_library_version()},
          {"hdf5_version", hdf5_version()},
          {"cpu_model", processor()}};
}

}  // namespace pf2lora
