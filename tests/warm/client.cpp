// Stands for the program in tests: has the server of PF2LORA_WARM_SERVER (the path of its socket) run it with
// this process's arguments, environment, standard files and folder, passes signals on and ends as it ends.
// Without a server it becomes the program.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "warm/request.h"

namespace {

volatile sig_atomic_t process = 0;

void pass_on(int signal) {
  if (process != 0) kill(process, signal);
}

constexpr int passed_on[] = {SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

}  // namespace

int main(int argc, char** argv) {
  using namespace pf2lora::warm;
  const char* server = std::getenv("PF2LORA_WARM_SERVER");
  if (server == nullptr) {
    execv(PF2LORA_PROGRAM, argv);
    std::perror(PF2LORA_PROGRAM);
    return 127;
  }
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : passed_on) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  for (const int signal : passed_on) std::signal(signal, pass_on);

  const sockaddr_un address = address_of(server);
  const int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(connection, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    std::perror(server);
    return 127;
  }
  Request request{{argv, argv + argc}, {}, {0, 1, 2, open(".", O_RDONLY | O_DIRECTORY)}};
  for (char** setting = environ; *setting != nullptr; ++setting) request.environment.push_back(*setting);
  int number = 0;
  try {
    send(connection, request);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "warm start: %s\n", error.what());
    return 127;
  }
  if (!receive_number(connection, number)) return 127;
  process = number;
  sigprocmask(SIG_UNBLOCK, &signals, nullptr);

  int status = 0;
  if (!receive_number(connection, status)) return 127;
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  std::signal(WTERMSIG(status), SIG_DFL);
  raise(WTERMSIG(status));
  return 128 + WTERMSIG(status);
}
