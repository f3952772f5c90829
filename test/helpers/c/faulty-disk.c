/*
 * Put before the C library (ld.so(8), LD_PRELOAD):
 * - Reads of some places of files are EIO, as of sectors that a disk cannot read. The file that FAULTY_PLACES names has them, a line "FROM TO PATH"
 *   each, and is read when the process starts. They stay with the file that has that path then, whatever its name is later.
 * - Folders cannot be listed, as those of which a block cannot be read, or is damaged: the file that FAULTY_FOLDERS names has them, a line
 *   "ERRNO PATH" each, as it is when one is listed. What is in them is opened by its name as ever.
 * - Before its FAULTY_KILL_AT-th call that changes something in FAULTY_FOLDER, or below, the process is killed, without a word.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PLACES_MAX 16
#define REAL(name) ((__typeof__(&name))real(#name))

static struct {
  dev_t dev;
  ino_t ino;
  off_t from, to;
} places[PLACES_MAX];
static int place_count;
static const char *unlisted;
static const char *folder;
static long kill_at;
static long changes;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
  unlisted = getenv("FAULTY_FOLDERS");
  folder = getenv("FAULTY_FOLDER");
  const char *at = getenv("FAULTY_KILL_AT");
  kill_at = folder == NULL || at == NULL ? 0 : atol(at);
  const char *list = getenv("FAULTY_PLACES");
  FILE *lines = list == NULL ? NULL : fopen(list, "r");
  if (lines == NULL) return;
  long long from, to;
  char path[4096];
  struct stat found;
  while (place_count < PLACES_MAX && fscanf(lines, "%lld %lld %4095s", &from, &to, path) == 3) {
    if (stat(path, &found) != 0) continue;
    places[place_count].dev = found.st_dev;
    places[place_count].ino = found.st_ino;
    places[place_count].from = from;
    places[place_count++].to = to;
  }
  fclose(lines);
}

static int is_bad(int fd, off_t from, size_t length) {
  struct stat file;
  if (place_count == 0 || fstat(fd, &file) != 0) return 0;
  for (int i = 0; i < place_count; i++) {
    if (places[i].dev != file.st_dev || places[i].ino != file.st_ino) continue;
    if (places[i].from < from + (off_t)length && places[i].to > from) {
      errno = EIO;
      return 1;
    }
  }
  return 0;
}

static size_t length_of(const struct iovec *pieces, int count) {
  size_t length = 0;
  for (int i = 0; i < count; i++) length += pieces[i].iov_len;
  return length;
}

ssize_t read(int fd, void *to, size_t length) {
  if (place_count > 0 && is_bad(fd, lseek(fd, 0, SEEK_CUR), length)) return -1;
  return REAL(read)(fd, to, length);
}

ssize_t pread64(int fd, void *to, size_t length, off64_t at) {
  return is_bad(fd, at, length) ? -1 : REAL(pread64)(fd, to, length, at);
}

ssize_t preadv64(int fd, const struct iovec *to, int count, off64_t at) {
  return is_bad(fd, at, length_of(to, count)) ? -1 : REAL(preadv64)(fd, to, count, at);
}

/* libuv lists folders with it. */
int scandir64(const char *path, struct dirent64 ***names, int (*filter)(const struct dirent64 *),
              int (*compare)(const struct dirent64 **, const struct dirent64 **)) {
  FILE *lines = unlisted == NULL ? NULL : fopen(unlisted, "r");
  int error = 0, bad;
  char line[4096];
  struct stat asked, found;
  if (lines != NULL && stat(path, &asked) == 0) {
    while (error == 0 && fscanf(lines, "%d %4095s", &bad, line) == 2) {
      if (stat(line, &found) == 0 && found.st_dev == asked.st_dev && found.st_ino == asked.st_ino) error = bad;
    }
  }
  if (lines != NULL) fclose(lines);
  if (error == 0) return REAL(scandir64)(path, names, filter, compare);
  errno = error;
  return -1;
}

static void changing(const char *path) {
  if (kill_at == 0 || strncmp(path, folder, strlen(folder)) != 0) return;
  if (__atomic_add_fetch(&changes, 1, __ATOMIC_SEQ_CST) == kill_at) kill(getpid(), SIGKILL);
}

static void changing_file(int fd) {
  if (kill_at == 0) return;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return;
  path[length] = 0;
  changing(path);
}

ssize_t write(int fd, const void *from, size_t length) {
  changing_file(fd);
  return REAL(write)(fd, from, length);
}

ssize_t writev(int fd, const struct iovec *from, int count) {
  changing_file(fd);
  return REAL(writev)(fd, from, count);
}

ssize_t pwrite64(int fd, const void *from, size_t length, off64_t at) {
  changing_file(fd);
  return REAL(pwrite64)(fd, from, length, at);
}

ssize_t pwritev64(int fd, const struct iovec *from, int count, off64_t at) {
  changing_file(fd);
  return REAL(pwritev64)(fd, from, count, at);
}

int fsync(int fd) {
  changing_file(fd);
  return REAL(fsync)(fd);
}

int fdatasync(int fd) {
  changing_file(fd);
  return REAL(fdatasync)(fd);
}

int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if ((flags & (O_CREAT | O_TRUNC)) != 0) changing(path);
  return REAL(open64)(path, flags, mode);
}

int rename(const char *from, const char *to) {
  changing(to);
  return REAL(rename)(from, to);
}

int link(const char *from, const char *to) {
  changing(to);
  return REAL(link)(from, to);
}

int unlink(const char *path) {
  changing(path);
  return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
  changing(path);
  return REAL(mkdir)(path, mode);
}
