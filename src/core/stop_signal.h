// When a run has to stop early: a signal from the user or the batch system, or --max-hours. Each rank sees
// its own signals and clock; the ranks agree before they act.
#pragma once
#include <string>

namespace pf2lora {

// From here on SIGTERM, SIGUSR1 and the first SIGINT only ask the run to stop; a second SIGINT kills as
// usual. Interrupted system calls are restarted. SIGXFSZ is ignored. Throws Error if a handler cannot be
// installed.
void install_stop_signals();

// Whether one of them has come.
bool stop_requested();

// The first that came: "signal SIGUSR1"; empty if none.
std::string stop_reason();

// Forgets what has come.
void clear_stop_request();

// Says when there is no time left for another round under --max-hours.
class TimeLimit {
 public:
  explicit TimeLimit(double max_hours);  // 0: no limit. Throws OptionError if negative or not finite

  // Seconds of a round, and of saving what it leaves behind.
  void round_took(double seconds);
  void saving_took(double seconds);

  // Whether one more round, after one that ended `elapsed` seconds after the start of the program and is not
  // saved yet, might pass the limit: it is taken to need 1.1 times the longest so far, both to be saved in
  // the longest time so far, and 1% of the limit is kept for the end of the run.
  bool next_round_would_pass(double elapsed) const;

  // "--max-hours 0.5".
  std::string reason() const;

 private:
  double max_hours_;
  double longest_round_ = 0, longest_saving_ = 0;  // seconds
};

}  // namespace pf2lora
