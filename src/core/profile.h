// Where the time of a process goes: spans of phases and operations, which may nest. While nothing is recorded
// a span costs a comparison.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

namespace pf2lora {

class Profile {
 public:
  // Records from here on, times counting from here: every span in the totals, the first `most` one by one.
  void start(size_t most);
  void stop() { recording_ = false; }
  bool recording() const { return recording_; }
  // Nanoseconds since start(), or before it since some point of the past.
  int64_t now() const;
  // `kind` and `name` are literals, or live as long.
  void add(const char* kind, const char* name, int64_t begin, int64_t end);

  struct Span {
    const char *kind, *name;
    int64_t begin, end;  // nanoseconds
  };
  struct Total {
    int64_t count = 0, nanoseconds = 0;
  };
  const std::vector<Span>& spans() const { return spans_; }
  using Totals = std::map<std::pair<std::string_view, std::string_view>, Total>;
  const Totals& totals() const { return totals_; }  // by kind and name

 private:
  bool recording_ = false;
  int64_t start_ = 0;
  size_t most_ = 0;
  std::vector<Span> spans_;
  Totals totals_;
};

// That of this process, whose main thread alone records.
Profile& profile();

// A span from here to the end of the scope.
class ProfileSpan {
 public:
  ProfileSpan(const char* kind, const char* name)
      : kind_(kind), name_(name), begin_(profile().recording() ? profile().now() : -1) {}
  ~ProfileSpan() {
    if (begin_ >= 0) profile().add(kind_, name_, begin_, profile().now());
  }
  ProfileSpan(const ProfileSpan&) = delete;
  ProfileSpan& operator=(const ProfileSpan&) = delete;

 private:
  const char *kind_, *name_;
  int64_t begin_;
};

}  // namespace pf2lora
