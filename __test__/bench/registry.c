// Load on a registry of 127.0.0.1 over connections that are kept, one thread each. Prints microseconds.
//   registry get PORT PATH COUNT CLIENTS            COUNT GETs of one path together
//   registry push PORT NAME LIST CLIENTS            blobs of LIST (lines "DIGEST FILE"): POST, then PUT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct blob {
  char digest[80];
  char *bytes;
  long size;
};

static int port;
static const char *target;
static int count;
static struct blob blobs[65536];
static atomic_int next;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int dial(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static void send_all(int fd, const char *bytes, long size) {
  while (size > 0) {
    ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
    if (n <= 0) fail("send");
    bytes += n;
    size -= n;
  }
}

// Reads one answer, its body thrown away; the head stays in `head`. Gives the status.
static int answer(int fd, char *head, int room) {
  int have = 0;
  char *end;
  do {
    ssize_t n = recv(fd, head + have, room - 1 - have, 0);
    if (n <= 0) fail("recv");
    have += n;
    head[have] = 0;
  } while (!(end = strstr(head, "\r\n\r\n")));
  long length = 0;
  char *field = strcasestr(head, "\r\ncontent-length:");
  if (field && field < end) length = atol(field + 17);
  long rest = length - (have - (end + 4 - head));
  while (rest > 0) {
    // MSG_TRUNC: the kernel throws the bytes away without copying them
    ssize_t n = recv(fd, NULL, rest > 1 << 20 ? 1 << 20 : rest, MSG_TRUNC);
    if (n <= 0) fail("recv");
    rest -= n;
  }
  end[0] = 0;
  return atoi(head + 9);
}

static void *get(void *unused) {
  (void)unused;
  char request[1024], head[8192];
  int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: application/vnd.oci.image.manifest.v1+json\r\n\r\n", target, port);
  int fd = dial();
  while (atomic_fetch_add(&next, 1) < count) {
    send_all(fd, request, length);
    int status = answer(fd, head, sizeof head);
    if (status != 200) fprintf(stderr, "GET %s: %d\n", target, status), exit(1);
  }
  close(fd);
  return NULL;
}

static void *push(void *unused) {
  (void)unused;
  char request[2048], head[8192];
  int fd = dial();
  for (int i; (i = atomic_fetch_add(&next, 1)) < count;) {
    int length = snprintf(request, sizeof request,
                          "POST /v2/%s/blobs/uploads/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 0\r\n\r\n", target, port);
    send_all(fd, request, length);
    if (answer(fd, head, sizeof head) != 202) fprintf(stderr, "POST: %s\n", head), exit(1);
    char *location = strcasestr(head, "\r\nlocation: ");
    if (!location) fprintf(stderr, "POST without Location\n"), exit(1);
    location += 12;
    location[strcspn(location, "\r\n")] = 0;
    char *path = strstr(location, "://");
    path = path ? strchr(path + 3, '/') : location;
    length = snprintf(request, sizeof request,
                      "PUT %s%cdigest=%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/octet-stream\r\nContent-Length: %ld\r\n\r\n",
                      path, strchr(path, '?') ? '&' : '?', blobs[i].digest, port, blobs[i].size);
    send_all(fd, request, length);
    send_all(fd, blobs[i].bytes, blobs[i].size);
    if (answer(fd, head, sizeof head) != 201) fprintf(stderr, "PUT: %s\n", head), exit(1);
  }
  close(fd);
  return NULL;
}

static void load(const char *list) {
  char file[1024];
  FILE *lines = fopen(list, "r");
  if (!lines) fail(list);
  while (fscanf(lines, "%79s %1023s", blobs[count].digest, file) == 2) {
    struct stat st;
    FILE *in = fopen(file, "r");
    if (!in || fstat(fileno(in), &st) < 0) fail(file);
    blobs[count].size = st.st_size;
    blobs[count].bytes = malloc(st.st_size + 1);
    if (fread(blobs[count].bytes, 1, st.st_size, in) != (size_t)st.st_size) fail(file);
    fclose(in);
    count++;
  }
  fclose(lines);
}

int main(int argc, char **argv) {
  if (argc != 6) return fprintf(stderr, "usage: registry get PORT PATH COUNT CLIENTS | push PORT NAME LIST CLIENTS\n"), 2;
  port = atoi(argv[2]);
  target = argv[3];
  int clients = atoi(argv[5]);
  int pushing = strcmp(argv[1], "push") == 0;
  if (pushing) load(argv[4]);
  else count = atoi(argv[4]);
  pthread_t threads[1024];
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  for (int i = 0; i < clients; i++)
    if (pthread_create(&threads[i], NULL, pushing ? push : get, NULL)) fail("pthread_create");
  for (int i = 0; i < clients; i++) pthread_join(threads[i], NULL);
  clock_gettime(CLOCK_MONOTONIC, &b);
  printf("%ld\n", (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000);
  return 0;
}
