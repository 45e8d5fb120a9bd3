// traffic serve PORT BYTES: writes so many bytes to each connection. traffic fetch ADDRESS PORT: reads to the end, prints microseconds.
// traffic dns ADDRESS SECONDS RATE: asks for names that nobody has asked for, so many a second; prints answers, failures, losses and
// the 99th percentile of the time to an answer in microseconds, in which what is lost took as long as it was waited for.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// Seconds behind the last question: what has not come by then is lost.
#define WAIT 6

static char buffer[1 << 18];

static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in address(const char *ip, const char *port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
  if (inet_pton(AF_INET, ip, &a.sin_addr) != 1) fail(ip);
  return a;
}

static void serve(const char *port, long bytes) {
  struct sockaddr_in a = address("0.0.0.0", port);
  int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 16)) fail("listen");
  for (;;) {
    int client = accept(listener, 0, 0);
    for (long left = bytes; left > 0;) {
      long n = send(client, buffer, left < (long)sizeof buffer ? left : (long)sizeof buffer, MSG_NOSIGNAL);
      if (n <= 0) break;
      left -= n;
    }
    close(client);
  }
}

static void fetch(const char *ip, const char *port) {
  struct sockaddr_in a = address(ip, port);
  long start = now(), bytes = 0, n;
  int s = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(s, (struct sockaddr *)&a, sizeof a)) fail("connect");
  while ((n = read(s, buffer, sizeof buffer)) > 0) bytes += n;
  if (n < 0) fail("read");
  printf("%ld bytes %ld\n", bytes, now() - start);
}

static int ascending(const void *a, const void *b) {
  return *(const long *)a < *(const long *)b ? -1 : 1;
}

static void dns(const char *ip, int seconds, int rate) {
  struct sockaddr_in a = address(ip, "53");
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  if (connect(s, (struct sockaddr *)&a, sizeof a)) fail("connect");
  int total = seconds * rate, sent = 0, answered = 0, failed = 0;
  long *began = calloc(65536, sizeof *began), *took = calloc(total, sizeof *took), start = now();
  if (total > 65536 || !began || !took) fail("too many questions");
  while (answered + failed < total && now() < start + (seconds + WAIT) * 1000000L) {
    while (sent < total && now() >= start + sent * 1000000L / rate) {
      unsigned char q[64] = {sent >> 8, sent & 255, 1, 0, 0, 1};
      int at = 12 + 1 + sprintf((char *)q + 13, "q%d-%d", (int)getpid(), sent);
      q[12] = at - 13;
      memcpy(q + at, "\4test\0\0\1\0\1", 10);
      began[sent++] = now();
      if (send(s, q, at + 10, 0) < 0) fail("send");
    }
    struct pollfd p = {.fd = s, .events = POLLIN};
    poll(&p, 1, 1);
    unsigned char r[512];
    while (recv(s, r, sizeof r, MSG_DONTWAIT) >= 12) {
      if (r[3] & 15) failed++;
      else took[answered++] = now() - began[r[0] << 8 | r[1]];
    }
  }
  for (int i = answered; i < total; i++) took[i] = WAIT * 1000000L;
  qsort(took, total, sizeof *took, ascending);
  printf("%d %d %d %ld\n", answered, failed, total - answered - failed, took[total * 99 / 100]);
}

int main(int count, char **args) {
  if (count == 4 && !strcmp(args[1], "serve")) serve(args[2], atol(args[3]));
  else if (count == 4 && !strcmp(args[1], "fetch")) fetch(args[2], args[3]);
  else if (count == 5 && !strcmp(args[1], "dns")) dns(args[2], atoi(args[3]), atoi(args[4]));
  else return 2;
}
