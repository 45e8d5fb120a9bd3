// The bench's own client: one static program that speaks the same HTTP to every daemon's socket and times each call
// with the monotonic clock, so that no client's start-up is part of a figure.
//
//   client lifecycle SOCKET IMAGE NETWORK     one line: create start wait remove total (microseconds)
//   client exec SOCKET CONTAINER              one line: total of create, start to the end of its stream, inspect
//   client remove SOCKET CONTAINER            one line: DELETE with force
//   client stop SOCKET CONTAINER              one line: POST stop
//   client get SOCKET PATH COUNT              one line: COUNT GETs of PATH on one connection each
//   client parallel SOCKET IMAGE NETWORK N    N lifecycles at once: one line, wall time of all
//   client create SOCKET IMAGE COUNT          one line: COUNT creations
//   client start SOCKET CONTAINER             one line: POST start
//   client network SOCKET NAME                one line: create and DELETE of a bridge network
//   client connect SOCKET NETWORK CONTAINER   one line: connect and disconnect
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *socket_path;
static char body[1 << 24];

static long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static void fail(const char *what, const char *why) {
  fprintf(stderr, "client: %s: %s\n", what, why);
  exit(1);
}

// One request on a connection of its own, which the server closes; gives the status, the response lies in `body`.
static int call(const char *method, const char *path, const char *json, const char *headers) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, socket_path, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail(socket_path, strerror(errno));
  char request[8192];
  int length = snprintf(request, sizeof request,
                        "%s /v1.45%s HTTP/1.1\r\nHost: docker\r\n%sContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", method,
                        path, headers, strlen(json), json);
  if (write(fd, request, length) != length) fail(path, "short write");
  size_t have = 0;
  for (;;) {
    ssize_t got = read(fd, body + have, sizeof body - 1 - have);
    if (got < 0) fail(path, strerror(errno));
    if (got == 0) break;
    have += got;
  }
  close(fd);
  body[have] = 0;
  int status = 0;
  if (sscanf(body, "HTTP/1.1 %d", &status) != 1) fail(path, "no HTTP response");
  return status;
}

static void expect(int status, int wanted, const char *what) {
  if (status != wanted) {
    fprintf(stderr, "client: %s answered %d, wanted %d: %s\n", what, status, wanted, body);
    exit(1);
  }
}

static void find_id(char *id) {
  char *at = strstr(body, "\"Id\":\"");
  if (!at) fail("create", "no Id in the answer");
  memcpy(id, at + 6, 64);
  id[64] = 0;
}

#define CLOSE "Connection: close\r\n"

static void lifecycle(const char *image, const char *network, long t[5]) {
  char json[1024], path[256], id[65];
  snprintf(json, sizeof json, "{\"Image\":\"%s\",\"Cmd\":[\"/bin/true\"],\"HostConfig\":{\"NetworkMode\":\"%s\"}}", image, network);
  long a = now_us();
  expect(call("POST", "/containers/create", json, CLOSE), 201, "create");
  find_id(id);
  long b = now_us();
  snprintf(path, sizeof path, "/containers/%s/start", id);
  expect(call("POST", path, "", CLOSE), 204, "start");
  long c = now_us();
  snprintf(path, sizeof path, "/containers/%s/wait", id);
  expect(call("POST", path, "", CLOSE), 200, "wait");
  if (!strstr(body, "\"StatusCode\":0")) fail("wait", body);
  long d = now_us();
  snprintf(path, sizeof path, "/containers/%s", id);
  expect(call("DELETE", path, "", CLOSE), 204, "remove");
  long e = now_us();
  t[0] = b - a, t[1] = c - b, t[2] = d - c, t[3] = e - d, t[4] = e - a;
}

static void exec_once(const char *container) {
  char path[256], id[65];
  long a = now_us();
  snprintf(path, sizeof path, "/containers/%s/exec", container);
  expect(call("POST", path, "{\"Cmd\":[\"/bin/true\"],\"AttachStdout\":true,\"AttachStderr\":true}", CLOSE), 201, "exec create");
  find_id(id);
  snprintf(path, sizeof path, "/exec/%s/start", id);
  int status = call("POST", path, "{\"Detach\":false,\"Tty\":false}", "Connection: Upgrade\r\nUpgrade: tcp\r\n");
  expect(status, 101, "exec start");
  snprintf(path, sizeof path, "/exec/%s/json", id);
  expect(call("GET", path, "", CLOSE), 200, "exec inspect");
  if (!strstr(body, "\"ExitCode\":0")) fail("exec", body);
  printf("%ld\n", now_us() - a);
}

int main(int argc, char **argv) {
  if (argc < 4) fail("usage", "see the head of client.c");
  const char *mode = argv[1];
  socket_path = argv[2];
  char path[256];
  if (!strcmp(mode, "lifecycle")) {
    long t[5];
    lifecycle(argv[3], argv[4], t);
    printf("%ld %ld %ld %ld %ld\n", t[0], t[1], t[2], t[3], t[4]);
  } else if (!strcmp(mode, "exec")) {
    exec_once(argv[3]);
  } else if (!strcmp(mode, "remove")) {
    long a = now_us();
    snprintf(path, sizeof path, "/containers/%s?force=1", argv[3]);
    expect(call("DELETE", path, "", CLOSE), 204, "remove");
    printf("%ld\n", now_us() - a);
  } else if (!strcmp(mode, "stop")) {
    long a = now_us();
    snprintf(path, sizeof path, "/containers/%s/stop", argv[3]);
    expect(call("POST", path, "", CLOSE), 204, "stop");
    printf("%ld\n", now_us() - a);
  } else if (!strcmp(mode, "get")) {
    long a = now_us();
    for (int i = 0; i < atoi(argv[4]); i++) expect(call("GET", argv[3], "", CLOSE), 200, argv[3]);
    printf("%ld\n", now_us() - a);
  } else if (!strcmp(mode, "create")) {
    char json[256];
    snprintf(json, sizeof json, "{\"Image\":\"%s\",\"Cmd\":[\"/bin/true\"]}", argv[3]);
    long a = now_us();
    for (int i = 0; i < atoi(argv[4]); i++) expect(call("POST", "/containers/create", json, CLOSE), 201, "create");
    printf("%ld\n", now_us() - a);
  } else if (!strcmp(mode, "start")) {
    long a = now_us();
    snprintf(path, sizeof path, "/containers/%s/start", argv[3]);
    expect(call("POST", path, "", CLOSE), 204, "start");
    printf("%ld\n", now_us() - a);
  } else if (!strcmp(mode, "network")) {
    char json[256];
    snprintf(json, sizeof json, "{\"Name\":\"%s\"}", argv[3]);
    long a = now_us();
    expect(call("POST", "/networks/create", json, CLOSE), 201, "network create");
    snprintf(path, sizeof path, "/networks/%s", argv[3]);
    expect(call("DELETE", path, "", CLOSE), 204, "network remove");
    printf("%ld\n", now_us() - a);
  } else if (!strcmp(mode, "connect")) {
    char json[256];
    snprintf(json, sizeof json, "{\"Container\":\"%s\"}", argv[4]);
    long a = now_us();
    snprintf(path, sizeof path, "/networks/%s/connect", argv[3]);
    expect(call("POST", path, json, CLOSE), 200, "connect");
    snprintf(path, sizeof path, "/networks/%s/disconnect", argv[3]);
    expect(call("POST", path, json, CLOSE), 200, "disconnect");
    printf("%ld\n", now_us() - a);
  } else if (!strcmp(mode, "parallel")) {
    int n = atoi(argv[5]), failed = 0, status;
    long a = now_us();
    for (int i = 0; i < n; i++) {
      if (fork() == 0) {
        long t[5];
        lifecycle(argv[3], argv[4], t);
        _exit(0);
      }
    }
    while (wait(&status) > 0) failed += status != 0;
    if (failed) fail("parallel", "a lifecycle failed");
    printf("%ld\n", now_us() - a);
  } else {
    fail("unknown mode", mode);
  }
  return 0;
}
