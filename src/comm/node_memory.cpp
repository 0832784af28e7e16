// Memory of which the ranks of a machine read one copy: a file without a name, in memory.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "comm/mpi_calls.h"

namespace pf2lora {
namespace {

class MemoryFile {
 public:
  explicit MemoryFile(size_t bytes) : descriptor_(memfd_create("pf2lora", MFD_CLOEXEC)) {
    if (descriptor_ >= 0 && ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) close();
  }
  ~MemoryFile() { close(); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // By which other processes of this user open it while this object lives; "" where the system gave none.
  std::string path() const {
    return descriptor_ < 0 ? ""
                           : "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(descriptor_);
  }

 private:
  void close() {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
  }
  int descriptor_;
};

// The first `bytes` of the file, empty where that fails.
std::shared_ptr<std::byte> map(const std::string& path, size_t bytes, bool writes) {
  const int file = open(path.c_str(), (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (file < 0) return nullptr;
  void* data = mmap(nullptr, bytes, writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (data == MAP_FAILED) return nullptr;
  prefer_large_pages(data, bytes);
  return {static_cast<std::byte*>(data), [bytes](std::byte* block) { munmap(block, bytes); }};
}

}  // namespace

std::shared_ptr<const std::byte> Communicator::filled_on_node(size_t bytes, const FillMemory& fill) const {
  std::shared_ptr<std::byte> shared;
  const bool first = local_rank() == 0;
  if (local_size() > 1 && bytes > 0) {
    std::optional<MemoryFile> file;
    if (first) file.emplace(bytes);
    std::array<char, 64> path{};
    if (first) file->path().copy(path.data(), path.size() - 1);
    check_mpi(MPI_Bcast(path.data(), static_cast<int>(path.size()), MPI_CHAR, 0, state_->machine),
              "MPI_Bcast");
    shared = map(path.data(), bytes, first);
    int all_mapped = shared != nullptr;
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, &all_mapped, 1, MPI_INT, MPI_MIN, state_->machine),
              "MPI_Allreduce");
    if (!all_mapped) shared = nullptr;
  }
  std::shared_ptr<const std::byte> filled = shared;
  together([&] {
    if (!shared)
      filled = own_filled_memory(bytes, fill);
    else if (first)
      fill(shared.get());
  });
  return filled;
}

}  // namespace pf2lora
