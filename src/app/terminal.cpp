// Where a rank's output ends up: in a terminal or in a log.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <string>

#include "app/progress.h"

namespace pf2lora {
namespace {

// Columns of the terminal behind `descriptor`; 80 when it does not tell.
int64_t terminal_columns(int descriptor) {
  winsize size{};
  if (ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

struct Process {
  std::string name;
  long parent = 0;
};

// /proc/PID/stat reads "PID (name) state parent ...", where the name may hold blanks and parentheses.
Process read_process(long id) {
  std::ifstream file("/proc/" + std::to_string(id) + "/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t open = text.find('('), close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 4 >= text.size()) return {};
  return {text.substr(open + 1, close - open - 1), std::strtol(text.c_str() + close + 4, nullptr, 10)};
}

bool is_launcher(const std::string& name) {
  for (const char* launcher : {"mpirun", "mpiexec", "orterun", "orted", "prterun", "prted"}) {
    if (name == launcher || name.starts_with(std::string(launcher) + ".")) return true;  // mpirun.openmpi
  }
  return false;
}

// The nearest launcher above this process, so that a wrapper script between the two does no harm; 0 for none.
long find_launcher() {
  long id = getppid();
  for (int generation = 0; id > 1 && generation < 8; ++generation) {
    const Process process = read_process(id);
    if (is_launcher(process.name)) return id;
    id = process.parent;
  }
  return 0;
}

// Whether the standard output of another process is a terminal. Only a character device is opened: opening a
// pipe or a socket of somebody else could disturb it.
bool writes_to_terminal(long process) {
  const std::string path = "/proc/" + std::to_string(process) + "/fd/1";
  struct stat status {};
  if (stat(path.c_str(), &status) != 0 || !S_ISCHR(status.st_mode)) return false;
  const int descriptor = open(path.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return false;
  const bool terminal = isatty(descriptor) != 0;
  close(descriptor);
  return terminal;
}

bool ends_in_terminal(int descriptor) {
  if (isatty(descriptor) == 0) return false;
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr)
    return true;  // Open MPI sets it for ranks that it launched
  const long launcher = find_launcher();
  return launcher != 0 && writes_to_terminal(launcher);
}

}  // namespace

ProgressStyle choose_progress(const std::string& mode, int descriptor) {
  using Form = ProgressStyle::Form;
  ProgressStyle style{.form = Form::off, .columns = terminal_columns(descriptor)};
  if (mode == "bar") style.form = Form::bar;
  if (mode == "lines") style.form = Form::lines;
  if (mode == "auto") style.form = ends_in_terminal(descriptor) ? Form::bar : Form::lines;
  return style;
}

}  // namespace pf2lora
