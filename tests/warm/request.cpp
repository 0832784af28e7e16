#include "warm/request.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace pf2lora::warm {
namespace {

bool send_all(int socket, const void* data, size_t size) {
  for (const char* at = static_cast<const char*>(data); size > 0;) {
    const ssize_t sent = ::send(socket, at, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    at += sent;
    size -= size_t(sent);
  }
  return true;
}

bool receive_all(int socket, void* data, size_t size) {
  for (char* at = static_cast<char*>(data); size > 0;) {
    const ssize_t got = ::recv(socket, at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= size_t(got);
  }
  return true;
}

void require(bool done) {
  if (!done) throw std::system_error(errno, std::generic_category(), "the socket of a warm start");
}

struct Sizes {
  size_t arguments, bytes;  // how many arguments; how long all texts are, each with its closing zero
};

// A message of `sizes` that carries descriptors beside it.
struct Envelope {
  explicit Envelope(Sizes& sizes) : content{&sizes, sizeof sizes} {
    header.msg_iov = &content;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
  }
  iovec content;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof Request::files)] = {};
  msghdr header{};
};

}  // namespace

sockaddr_un address_of(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof address.sun_path)
    throw std::system_error(ENAMETOOLONG, std::generic_category(), path);
  std::strcpy(address.sun_path, path);
  return address;
}

void send(int socket, const Request& request) {
  std::string texts;
  for (const auto* list : {&request.arguments, &request.environment})
    for (const std::string& text : *list) texts.append(text.c_str(), text.size() + 1);
  Sizes sizes{request.arguments.size(), texts.size()};
  Envelope envelope(sizes);
  cmsghdr* files = CMSG_FIRSTHDR(&envelope.header);
  files->cmsg_level = SOL_SOCKET;
  files->cmsg_type = SCM_RIGHTS;
  files->cmsg_len = CMSG_LEN(sizeof request.files);
  std::memcpy(CMSG_DATA(files), request.files.data(), sizeof request.files);
  require(sendmsg(socket, &envelope.header, MSG_NOSIGNAL) == ssize_t(sizeof sizes));
  require(send_all(socket, texts.data(), texts.size()));
}

Request receive(int socket) {
  Sizes sizes{};
  Envelope envelope(sizes);
  require(recvmsg(socket, &envelope.header, MSG_CMSG_CLOEXEC | MSG_WAITALL) == ssize_t(sizeof sizes));
  const cmsghdr* files = CMSG_FIRSTHDR(&envelope.header);
  Request request;
  require(files != nullptr && files->cmsg_len == CMSG_LEN(sizeof request.files));
  std::memcpy(request.files.data(), CMSG_DATA(files), sizeof request.files);
  std::string texts(sizes.bytes, '\0');
  require(receive_all(socket, texts.data(), texts.size()));
  for (size_t at = 0; at < texts.size(); at += std::strlen(texts.c_str() + at) + 1)
    (request.arguments.size() < sizes.arguments ? request.arguments : request.environment)
        .push_back(texts.c_str() + at);
  return request;
}

bool send_number(int socket, int value) {
  return send_all(socket, &value, sizeof value);
}

bool receive_number(int socket, int& value) {
  return receive_all(socket, &value, sizeof value);
}

}  // namespace pf2lora::warm
