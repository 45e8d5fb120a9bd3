// The floor: what the kernel asks for one container when nothing stands in between. clone3 with all namespaces, an overlay,
// the mounts of a container, pivot_root, cgroup v1 joins by the child itself, exec, wait, teardown. No daemon, no log, no veth.
//
//   floor LOWER-DIR WORK-DIR PROGRAM     one line: microseconds of the whole life
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *HIERARCHIES[] = {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"};
#define COUNT (int)(sizeof HIERARCHIES / sizeof *HIERARCHIES)

static long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static void check(int result, const char *what) {
  if (result < 0) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    _exit(1);
  }
}

static void write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return; // a value that this hierarchy does not have
  if (write(fd, text, strlen(text)) < 0) perror(path);
  close(fd);
}

static int child(const char *lower, const char *work, char *const program[], int *tasks) {
  char options[4096];
  for (int i = 0; i < COUNT; i++) check(write(tasks[i], "0", 1), "join");
  check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
  check(chdir(work), "chdir");
  snprintf(options, sizeof options, "lowerdir=%s,upperdir=upper,workdir=work", lower);
  check(mount("overlay", "root", "overlay", 0, options), "overlay");
  check(chdir("root"), "chdir root");
  mkdir("proc", 0755); // images need not have them
  mkdir("sys", 0755);
  mkdir("dev", 0755);
  check(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
  check(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755"), "dev");
  check(mkdir("dev/pts", 0755), "pts");
  check(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"), "devpts");
  check(mkdir("dev/shm", 0755), "shm");
  check(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777"), "shm");
  check(mkdir("dev/mqueue", 0755), "mqueue");
  check(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mqueue");
  check(mount("sysfs", "sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "sys");
  const char *devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
  for (int i = 0; i < 6; i++) {
    char to[64], from[64];
    snprintf(to, sizeof to, "dev/%s", devices[i]);
    snprintf(from, sizeof from, "/dev/%s", devices[i]);
    close(open(to, O_CREAT | O_WRONLY, 0666));
    check(mount(from, to, NULL, MS_BIND, NULL), from);
  }
  const char *masked[] = {"proc/kcore", "proc/keys", "proc/timer_list", "proc/interrupts"};
  for (int i = 0; i < 4; i++) mount("/dev/null", masked[i], NULL, MS_BIND, NULL);
  check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
  check(umount2(".", MNT_DETACH), "umount");
  check(chdir("/"), "chdir /");
  sethostname("floor", 5);
  execv(program[0], program);
  check(-1, program[0]);
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 4) return fprintf(stderr, "usage: floor LOWER-DIR WORK-DIR PROGRAM…\n"), 2;
  char path[4096];
  int tasks[COUNT], status;
  for (int i = 0; i < 3; i++) {
    const char *dirs[] = {"upper", "work", "root"};
    snprintf(path, sizeof path, "%s/%s", argv[2], dirs[i]);
    mkdir(path, 0755);
  }
  long start = now_us();
  for (int i = 0; i < COUNT; i++) {
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s/caisson-floor-%d", HIERARCHIES[i], getpid());
    check(mkdir(path, 0755), path);
    size_t end = strlen(path);
    if (!strcmp(HIERARCHIES[i], "cpuset")) {
      strcpy(path + end, "/cpuset.cpus"), write_file(path, "0-1");
      strcpy(path + end, "/cpuset.mems"), write_file(path, "0");
    }
    if (!strcmp(HIERARCHIES[i], "memory")) strcpy(path + end, "/memory.limit_in_bytes"), write_file(path, "67108864");
    strcpy(path + end, "/tasks");
    tasks[i] = open(path, O_WRONLY | O_CLOEXEC);
    check(tasks[i], path);
  }
  struct clone_args args = {
      .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
      .exit_signal = SIGCHLD,
  };
  int pid = syscall(SYS_clone3, &args, sizeof args);
  check(pid, "clone3");
  if (pid == 0) return child(argv[1], argv[2], argv + 3, tasks);
  waitpid(pid, &status, 0);
  for (int i = 0; i < COUNT; i++) {
    close(tasks[i]);
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s/caisson-floor-%d", HIERARCHIES[i], getpid());
    while (rmdir(path) && errno == EBUSY) usleep(100);
  }
  long end = now_us();
  if (!WIFEXITED(status) || WEXITSTATUS(status)) return fprintf(stderr, "floor: program failed: %d\n", status), 1;
  printf("%ld\n", end - start);
  return 0;
}
