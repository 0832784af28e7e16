// Errors carry the exit code that the program ends with (README, "Exit codes").
#pragma once
#include <stdexcept>
#include <string>

namespace pf2lora {

enum class ExitCode : int {
  done = 0,
  internal_error = 1,
  bad_option = 2,
  bad_input = 3,
  numerical_failure = 4,
  checkpointed = 85,  // stopped by a signal or --max-hours with everything saved: run again with --resume
};

// The root of every error that the program reports itself. A message reads: what is wrong (with the value
// that was given), and what to do.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// An option, an ini file or a combination of options that cannot be used: exit 2.
class OptionError : public Error {
 public:
  explicit OptionError(const std::string& message) : Error(ExitCode::bad_option, message) {}
};

// A model, dataset or checkpoint file that is missing or cannot be used: exit 3.
class InputError : public Error {
 public:
  explicit InputError(const std::string& message) : Error(ExitCode::bad_input, message) {}
};

// A loss, gradient or parameter that is no longer finite, or too large for the exact sum: exit 4.
class NumericalError : public Error {
 public:
  explicit NumericalError(const std::string& message) : Error(ExitCode::numerical_failure, message) {}
};

}  // namespace pf2lora
