// Holds the program loaded and forks it for every client, as loading LibTorch takes most of a short run. Each
// fork is a process of its own from before MPI_Init on. usage: warm_server SOCKET; it says "ready" and lives
// as long as its standard input.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>
#include <vector>

#include "app/program.h"
#include "warm/request.h"

namespace {

using namespace pf2lora;

struct Worker {
  pid_t process;
  int client;  // its socket; -1 once the client is gone
};

// The forked process; what the server opened closes.
[[noreturn]] void work(warm::Request& request, const sigset_t& signals) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (fchdir(request.files[3]) != 0) std::abort();
  for (int file = 0; file < 3; ++file) dup2(request.files[size_t(file)], file);
  close_range(3, ~0U, 0);
  sigprocmask(SIG_SETMASK, &signals, nullptr);
  clearenv();
  for (std::string& setting : request.environment) putenv(setting.data());
  std::vector<char*> words;
  for (std::string& argument : request.arguments) words.push_back(argument.data());
  run_process(std::span(words).subspan(1));
}

Worker start(int client, const sigset_t& signals) {
  warm::Request request = warm::receive(client);
  const pid_t process = fork();
  if (process == 0) work(request, signals);
  for (const int file : request.files) close(file);
  warm::send_number(client, process);
  return {process, client};
}

// Tells the clients whose processes have ended.
void reap(std::vector<Worker>& workers) {
  int status = 0;
  while (const pid_t process = waitpid(-1, &status, WNOHANG)) {
    if (process < 0) return;
    std::erase_if(workers, [&](const Worker& worker) {
      if (worker.process != process) return false;
      if (worker.client >= 0) {
        warm::send_number(worker.client, status);
        close(worker.client);
      }
      return true;
    });
  }
}

int listen_at(const char* path) {
  const sockaddr_un address = warm::address_of(path);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 64) != 0)
    return -1;
  return listener;
}

}  // namespace

int main(int argc, char** argv) {
  const int listener = argc == 2 ? listen_at(argv[1]) : -1;
  if (listener < 0) {
    std::perror("warm_server SOCKET");
    return 2;
  }
  sigset_t children, before;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, &before);
  const int ended = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  std::puts("ready");
  std::fflush(stdout);

  std::vector<Worker> workers;
  while (true) {
    std::vector<pollfd> events{{STDIN_FILENO, 0, 0}, {listener, POLLIN, 0}, {ended, POLLIN, 0}};
    for (const Worker& worker : workers) events.push_back({worker.client, 0, 0});
    if (poll(events.data(), events.size(), -1) < 0) continue;
    if (events[0].revents != 0) return 0;
    for (size_t i = 0; i < workers.size(); ++i)
      if (events[3 + i].revents != 0) {  // a client that was killed
        kill(workers[i].process, SIGKILL);
        close(std::exchange(workers[i].client, -1));
      }
    signalfd_siginfo information;
    while (read(ended, &information, sizeof information) > 0) {
    }
    reap(workers);
    if (events[1].revents == 0) continue;
    const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    try {
      workers.push_back(start(client, before));
    } catch (const std::exception& error) {
      std::fprintf(stderr, "warm_server: %s\n", error.what());
      close(client);
    }
  }
}
