#include "simulation/profile_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>

#include "core/profile.h"

namespace pf2lora {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostSpans = 800000;

double microseconds(int64_t nanoseconds) {
  return double(nanoseconds) / 1e3;
}

// A rank's events and totals, each list without its brackets.
struct Part {
  std::string events, totals;
};

Part part_of(int rank) {
  const auto line = [](std::string& text, const Json& json) {
    text += (text.empty() ? "" : ",\n") + json.dump();
  };
  Part part;
  line(part.events, {{"name", "process_name"},
                     {"ph", "M"},
                     {"pid", rank},
                     {"tid", 0},
                     {"args", {{"name", "rank " + std::to_string(rank)}}}});
  for (const Profile::Span& span : profile().spans())
    line(part.events, {{"name", span.name},
                       {"cat", span.kind},
                       {"ph", "X"},
                       {"ts", microseconds(span.begin)},
                       {"dur", microseconds(span.end - span.begin)},
                       {"pid", rank},
                       {"tid", 0}});
  for (const auto& [place, total] : profile().totals())
    line(part.totals, {{"rank", rank},
                       {"kind", place.first},
                       {"name", place.second},
                       {"count", total.count},
                       {"seconds", double(total.nanoseconds) / 1e9}});
  return part;
}

InputError unwritable(const std::string& file) {
  return InputError("the profile cannot be written to " + file + ": " + std::strerror(errno) +
                    "; give --profile a file that can be written to and has room");
}

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

size_t profile_spans(int ranks) {
  return kMostSpans / size_t(ranks);
}

void check_profile_file(const Communicator& comm, const std::string& file) {
  comm.together([&] {
    if (!comm.is_root()) return;
    std::error_code unknown;
    const bool was_there = std::filesystem::exists(file, unknown);
    if (!std::ofstream(file, std::ios::app)) throw unwritable(file);
    if (!was_there) std::filesystem::remove(file, unknown);
  });
}

// One rank after another, so that rank 0 never holds more than one other's part.
void write_profile(const Communicator& comm, const std::string& file) {
  const Part own = part_of(comm.rank());
  std::string totals = own.totals;
  std::ofstream out;
  if (comm.is_root()) {
    out.open(file);
    out << "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n" << own.events;
  }
  for (int rank = 1; rank < comm.size(); ++rank) {
    if (comm.rank() == rank) {
      comm.send_bytes(bytes(own.events), 0);
      comm.send_bytes(bytes(own.totals), 0);
    }
    if (!comm.is_root()) continue;
    out << ",\n" << text(comm.receive_bytes(rank));
    totals += ",\n" + text(comm.receive_bytes(rank));
  }
  if (comm.is_root()) out << "\n], \"totals\": [\n" << totals << "\n]}\n" << std::flush;
  comm.together([&] {
    if (!comm.is_root() || out) return;
    const InputError failure = unwritable(file);
    std::error_code unknown;
    if (std::filesystem::is_regular_file(file, unknown))
      std::filesystem::remove(file, unknown);  // half a trace
    throw failure;
  });
}

}  // namespace pf2lora
