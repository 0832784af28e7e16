// What a warm start hands to the server: the arguments, environment, standard files and folder of the client.
#pragma once
#include <sys/un.h>

#include <array>
#include <string>
#include <vector>

namespace pf2lora::warm {

struct Request {
  std::vector<std::string> arguments;    // with the program's name
  std::vector<std::string> environment;  // NAME=VALUE
  std::array<int, 4> files{};            // descriptors: standard input, output and error, and the folder
};

// Where a server listens. Throws std::system_error where the path is too long for a socket.
sockaddr_un address_of(const char* path);

// Over a connected Unix socket. Both throw std::system_error; receive() gives the receiver descriptors of its
// own.
void send(int socket, const Request& request);
Request receive(int socket);

// One int over a connected socket; false where the other side is gone.
bool send_number(int socket, int value);
bool receive_number(int socket, int& value);

}  // namespace pf2lora::warm
