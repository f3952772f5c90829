/*
 * A process that locks files as it is told, one command a line on stdin, one answer a line on stdout: ok, what was asked
 * for, or an errno in words. For tests of locks between processes (locker.ts compiles it).
 *
 *   open SLOT PATH | openr SLOT PATH (to read) | close SLOT
 *   posix|ofd|flock SLOT r|w|u START LENGTH try|wait      length 0: to the end
 *   get SLOT r|w START LENGTH                             F_GETLK: free, or TYPE START LENGTH PID
 *   count SLOT ROUNDS posix|flock                         so often: lock, read the number, write it one higher, unlock
 *   write SLOT TEXT | read SLOT                           at the beginning of the file
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define SLOTS 16
#define LINE 4096

static int fds[SLOTS];

static void on_signal(int number) { (void)number; }

static void answer(int result) {
  if (result >= 0)
    puts("ok");
  else
    puts(strerrorname_np(errno));
}

static short type_of(char c) { return c == 'r' ? F_RDLCK : c == 'w' ? F_WRLCK : F_UNLCK; }

static int set(const char *kind, int fd, char type, long long start, long long length, int wait) {
  if (strcmp(kind, "flock") == 0)
    return flock(fd, (type == 'r' ? LOCK_SH : type == 'w' ? LOCK_EX : LOCK_UN) | (wait ? 0 : LOCK_NB));
  struct flock lock = {.l_type = type_of(type), .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  if (strcmp(kind, "ofd") == 0) return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
  return fcntl(fd, wait ? F_SETLKW : F_SETLK, &lock);
}

static void get(int fd, char type, long long start, long long length) {
  struct flock lock = {.l_type = type_of(type), .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  if (fcntl(fd, F_GETLK, &lock) < 0)
    answer(-1);
  else if (lock.l_type == F_UNLCK)
    puts("free");
  else
    printf("%c %lld %lld %d\n", lock.l_type == F_RDLCK ? 'r' : 'w', (long long)lock.l_start, (long long)lock.l_len,
           (int)lock.l_pid);
}

static int count(int fd, int rounds, const char *kind) {
  for (int i = 0; i < rounds; i++) {
    char text[32] = {0};
    if (set(kind, fd, 'w', 0, 0, 1) < 0) return -1;
    if (pread(fd, text, sizeof text - 1, 0) < 0) return -1;
    int length = snprintf(text, sizeof text, "%lld\n", atoll(text) + 1);
    if (pwrite(fd, text, length, 0) != length) return -1;
    if (set(kind, fd, 'u', 0, 0, 0) < 0) return -1;
  }
  return 0;
}

static void read_text(int fd) {
  char text[LINE] = {0};
  if (pread(fd, text, sizeof text - 1, 0) < 0) {
    answer(-1);
    return;
  }
  text[strcspn(text, "\n")] = 0;
  printf("read %s\n", text);
}

/* A signal that comes between two commands interrupts nothing. */
static int next_line(char *line, int size) {
  while (fgets(line, size, stdin) == NULL) {
    if (!ferror(stdin) || errno != EINTR) return 0;
    clearerr(stdin);
  }
  return 1;
}

int main(void) {
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGUSR1, &action, NULL);
  setvbuf(stdout, NULL, _IOLBF, 0);
  char line[LINE], word[16], text[LINE], how[16];
  while (next_line(line, sizeof line)) {
    int slot = 0, rounds = 0;
    char type = 0;
    long long start = 0, length = 0;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "%15s %d", word, &slot) != 2 || slot < 0 || slot >= SLOTS) {
      puts("what?");
    } else if (strcmp(word, "open") == 0 && sscanf(line, "%*s %*d %4000s", text) == 1) {
      answer(fds[slot] = open(text, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    } else if (strcmp(word, "openr") == 0 && sscanf(line, "%*s %*d %4000s", text) == 1) {
      answer(fds[slot] = open(text, O_RDONLY | O_CLOEXEC));
    } else if (strcmp(word, "close") == 0) {
      answer(close(fds[slot]));
    } else if (strcmp(word, "get") == 0 && sscanf(line, "%*s %*d %c %lld %lld", &type, &start, &length) == 3) {
      get(fds[slot], type, start, length);
    } else if (strcmp(word, "count") == 0 && sscanf(line, "%*s %*d %d %15s", &rounds, how) == 2) {
      answer(count(fds[slot], rounds, how));
    } else if (strcmp(word, "write") == 0 && sscanf(line, "%*s %*d %4000s", text) == 1) {
      answer((int)pwrite(fds[slot], text, strlen(text), 0));
    } else if (strcmp(word, "read") == 0) {
      read_text(fds[slot]);
    } else if (sscanf(line, "%*s %*d %c %lld %lld %15s", &type, &start, &length, how) == 4) {
      answer(set(word, fds[slot], type, start, length, strcmp(how, "wait") == 0));
    } else {
      puts("what?");
    }
  }
  return 0;
}
