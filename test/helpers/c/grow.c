/*
 * grow PATH SAME ROUNDS: makes a file longer by one path and, as soon as it is closed, takes it as a whole by the other, without asking for
 * its size: by sendfile, and from a mapping. Says how many rounds went well, or what was missing.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEP = 700 };

static int fail(const char *what) {
  perror(what);
  return 1;
}

static long long sent(int fd, int target, long long most) {
  off_t at = 0;
  for (ssize_t got = 1; got > 0;)
    if ((got = sendfile(target, fd, &at, most)) < 0) return -1;
  return at;
}

int main(int argc, char **argv) {
  char bytes[STEP];
  struct stat stat_of;
  int rounds = argc == 4 ? atoi(argv[3]) : 0, target = memfd_create("target", 0);
  long long size = 0;
  memset(bytes, 'y', sizeof bytes);
  close(open(argv[2], O_WRONLY | O_CREAT, 0644));
  for (int round = 1; round <= rounds; round++) {
    /* What is looked at now is believed for a while. */
    if (stat(argv[1], &stat_of) < 0) return fail("stat");
    int fd = open(argv[2], O_WRONLY | O_APPEND);
    if (fd < 0 || write(fd, bytes, sizeof bytes) != sizeof bytes || close(fd) < 0) return fail("append");
    size += STEP;
    if ((fd = open(argv[1], O_RDONLY)) < 0) return fail("open");
    if (round % 2 == 0) {
      long long got = sent(fd, target, size);
      if (got != size) return printf("round %d: %lld bytes of %lld\n", round, got, size), 1;
    } else {
      /* SIGBUS if the kernel takes the file to end before. */
      volatile char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
      if (map == MAP_FAILED) return fail("mmap");
      if (map[size - 1] != 'y') return printf("round %d: the last byte is missing\n", round), 1;
      munmap((void *)map, size);
    }
    close(fd);
    if (ftruncate(target, 0) < 0 || lseek(target, 0, SEEK_SET) < 0) return fail("target");
  }
  printf("all of %d\n", rounds);
  return 0;
}
