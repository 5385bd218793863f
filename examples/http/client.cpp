// Surfaces over HTTP, on POSIX sockets: c++ -std=c++17 -o client client.cpp && ./client http://HOST:PORT FILE.
// A program of more than one route takes libcurl; this one shows that nothing else is needed.

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

struct Answer {
  std::string head, body;

  // The value of a header, whose name is in lower case.
  std::string header(const std::string& name) const {
    const auto start = head.find("\r\n" + name + ": ");
    if (start == std::string::npos) throw std::runtime_error("no header " + name);
    const auto value = start + name.size() + 4;
    return head.substr(value, head.find("\r\n", value) - value);
  }
};

int connected(const std::string& host, const std::string& port) {
  addrinfo wanted{}, *found = nullptr;
  wanted.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(host.c_str(), port.c_str(), &wanted, &found) != 0) throw std::runtime_error("no host " + host);
  const int line = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
  const bool open = line >= 0 && connect(line, found->ai_addr, found->ai_addrlen) == 0;
  freeaddrinfo(found);
  if (!open) throw std::runtime_error("no server at " + host + ":" + port);
  return line;
}

Answer ask(const std::string& host, const std::string& port, const std::string& route, const std::string& json) {
  const int line = connected(host, port);
  const std::string request = "POST " + route + " HTTP/1.1\r\nHost: " + host + ":" + port +
                              "\r\nContent-Type: application/json\r\nAccept: application/octet-stream\r\n"
                              "Connection: close\r\nContent-Length: " +
                              std::to_string(json.size()) + "\r\n\r\n" + json;
  for (std::size_t sent = 0; sent < request.size();) {
    const auto count = send(line, request.data() + sent, request.size() - sent, 0);
    if (count <= 0) throw std::runtime_error("the server does not listen");
    sent += static_cast<std::size_t>(count);
  }
  std::string all;
  char part[65536];
  for (ssize_t count; (count = recv(line, part, sizeof part, 0)) > 0;) all.append(part, static_cast<std::size_t>(count));
  close(line);
  const auto end = all.find("\r\n\r\n");
  if (end == std::string::npos) throw std::runtime_error("no answer");
  Answer answer{all.substr(0, end + 2), all.substr(end + 4)};
  if (answer.head.compare(9, 3, "200") != 0) throw std::runtime_error(answer.body);
  if (std::stoull(answer.header("content-length")) != answer.body.size()) throw std::runtime_error("a broken answer");
  return answer;
}

int main(int, char** arguments) try {
  const std::string address = std::string(arguments[1]).substr(std::string("http://").size());
  const auto colon = address.rfind(':');
  const Answer answer =
      ask(address.substr(0, colon), address.substr(colon + 1), "/sample", R"({"count": 3, "seed": 7})");
  // float32, little-endian: on such a machine the bytes are an array of float
  std::ofstream(arguments[2], std::ios::binary) << answer.body;
  std::string shape = answer.header("volvae-shape");
  for (char& letter : shape) letter = letter == ',' ? ' ' : letter;
  std::cout << shape << '\n';
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
