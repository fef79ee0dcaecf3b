// Preloaded before the C library: the n-th call that writes below a folder fails or ends the run.
//
// fault_arm(folder, n, mode) begins to count anew. Modes: 1 EIO; 2 ENOSPC, from the n-th call on, as
// a disk stays full; 3 writes half; 4 SIGKILL. n < 0 only counts.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, BROKEN, FULL, SHORT, KILLED };

static char folder[PATH_MAX];
static long chosen = -1, count = 0;
static int mode = NONE;

void fault_arm(const char* path, long n, int kind) {
  snprintf(folder, sizeof folder, "%s", path);
  chosen = n;
  mode = kind;
  count = 0;
}

long fault_count(void) { return count; }

static int is_below(const char* path) {
  return folder[0] && !strncmp(path, folder, strlen(folder));
}

static int is_file_below(int handle) {
  if (!folder[0]) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size <= 0) return 0;
  path[size] = 0;
  return is_below(path);
}

static int is_path_below(const char* path) {
  if (!folder[0] || path[0] == '/') return is_below(path);
  char whole[2 * PATH_MAX], here[PATH_MAX];
  if (!getcwd(here, sizeof here)) return 0;
  snprintf(whole, sizeof whole, "%s/%s", here, path);
  return is_below(whole);
}

// What this call has to do, with errno set.
static int next(void) {
  long n = ++count;
  if (chosen < 0 || (mode == FULL ? n < chosen : n != chosen)) return NONE;
  if (mode == KILLED) {
    kill(getpid(), SIGKILL);
    pause();
  }
  errno = mode == FULL ? ENOSPC : EIO;
  return mode;
}

#define REAL(name)                                                          \
  static __typeof__(&name) real;                                            \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);

#define FAULT(is_ours, failed, half)                                        \
  if (is_ours) {                                                            \
    int what = next();                                                      \
    if (what == BROKEN || what == FULL) return failed;                      \
    if (what == SHORT) half;                                                \
  }

ssize_t write(int handle, const void* bytes, size_t size) {
  REAL(write)
  FAULT(is_file_below(handle), -1, if (size > 1) size /= 2)
  return real(handle, bytes, size);
}

ssize_t pwrite(int handle, const void* bytes, size_t size, off_t at) {
  REAL(pwrite)
  FAULT(is_file_below(handle), -1, if (size > 1) size /= 2)
  return real(handle, bytes, size, at);
}

ssize_t pwrite64(int handle, const void* bytes, size_t size, off64_t at) {
  REAL(pwrite64)
  FAULT(is_file_below(handle), -1, if (size > 1) size /= 2)
  return real(handle, bytes, size, at);
}

ssize_t writev(int handle, const struct iovec* parts, int number) {
  REAL(writev)
  FAULT(is_file_below(handle), -1, if (number > 1) number = 1)
  return real(handle, parts, number);
}

size_t fwrite(const void* bytes, size_t size, size_t number, FILE* file) {
  REAL(fwrite)
  FAULT(is_file_below(fileno(file)), 0, return real(bytes, size, number / 2, file))
  return real(bytes, size, number, file);
}

ssize_t sendfile(int to, int from, off_t* at, size_t size) {
  REAL(sendfile)
  FAULT(is_file_below(to), -1, if (size > 1) size /= 2)
  return real(to, from, at, size);
}

ssize_t sendfile64(int to, int from, off64_t* at, size_t size) {
  REAL(sendfile64)
  FAULT(is_file_below(to), -1, if (size > 1) size /= 2)
  return real(to, from, at, size);
}

int fsync(int handle) {
  REAL(fsync)
  FAULT(is_file_below(handle), -1, )
  return real(handle);
}

int rename(const char* from, const char* to) {
  REAL(rename)
  if (is_path_below(to)) {
    long n = count + 1;
    int what = next();
    // A full disk has room for names that are there already; one failure stands for others.
    if (what == BROKEN || (what == FULL && n == chosen)) return -1;
  }
  return real(from, to);
}

int unlink(const char* path) {
  REAL(unlink)
  if (mode == KILLED && is_path_below(path)) next();
  return real(path);
}
