/*
 * System calls on files that Node does not have, one a line of stdin, answered by a line on stdout: a number, and behind it
 * what was read; or the negative errno. Files and mappings are known by small numbers that the caller chooses. Paths have
 * no spaces. The calls stand in answer().
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define SLOTS 16
#define WORDS 12
#define SHOWN_BYTES 4096

static int files[SLOTS];
static char *maps[SLOTS];
static size_t lengths[SLOTS];
static char *words[WORDS];
static long long number(int at) { return words[at] == NULL ? 0 : strtoll(words[at], NULL, 0); }
static int slot(int at) { return (int)(number(at) & (SLOTS - 1)); }
static long long result(long long got) { return got < 0 ? -errno : got; }

/* pwrite FILE OFFSET LENGTH FILL ALIGNMENT: from memory at this alignment and one byte more if it is negative. */
static char *memory(size_t length, long long alignment, char **whole) {
  size_t step = alignment < 0 ? (size_t)-alignment : alignment == 0 ? 16 : (size_t)alignment;
  if (posix_memalign((void **)whole, step < 16 ? 16 : step, length + step + 1) != 0) exit(1);
  return alignment < 0 ? *whole + 1 : *whole;
}

static void show(const char *bytes, long long length) {
  for (long long i = 0; i < length && i < SHOWN_BYTES; i++) printf("%02x", (unsigned char)bytes[i]);
}

static void answer(const char *call) {
  char *whole = NULL;
  if (strcmp(call, "open") == 0) { /* open FILE PATH FLAGS MODE */
    files[slot(1)] = open(words[2], (int)number(3), (mode_t)number(4));
    printf("%lld", result(files[slot(1)] < 0 ? -1 : 0));
  } else if (strcmp(call, "close") == 0) { /* close FILE */
    printf("%lld", result(close(files[slot(1)])));
  } else if (strcmp(call, "setfl") == 0) { /* setfl FILE FLAGS */
    printf("%lld", result(fcntl(files[slot(1)], F_SETFL, (int)number(2))));
  } else if (strcmp(call, "fallocate") == 0) { /* fallocate FILE MODE OFFSET LENGTH */
    printf("%lld", result(fallocate(files[slot(1)], (int)number(2), number(3), number(4))));
  } else if (strcmp(call, "lseek") == 0) { /* lseek FILE OFFSET WHENCE */
    printf("%lld", result(lseek(files[slot(1)], number(2), (int)number(3))));
  } else if (strcmp(call, "copy") == 0) { /* copy FILE OFFSET FILE OFFSET LENGTH */
    off_t from = number(2), to = number(4);
    printf("%lld", result(copy_file_range(files[slot(1)], &from, files[slot(3)], &to, (size_t)number(5), 0)));
  } else if (strcmp(call, "pwrite") == 0) { /* pwrite FILE OFFSET LENGTH FILL ALIGNMENT */
    char *data = memory((size_t)number(3), number(5), &whole);
    memset(data, (int)number(4), (size_t)number(3));
    printf("%lld", result(pwrite(files[slot(1)], data, (size_t)number(3), number(2))));
  } else if (strcmp(call, "pread") == 0) { /* pread FILE OFFSET LENGTH ALIGNMENT */
    char *data = memory((size_t)number(3), number(4), &whole);
    long long got = result(pread(files[slot(1)], data, (size_t)number(3), number(2)));
    printf("%lld ", got);
    show(data, got);
  } else if (strcmp(call, "ftruncate") == 0) { /* ftruncate FILE LENGTH */
    printf("%lld", result(ftruncate(files[slot(1)], number(2))));
  } else if (strcmp(call, "fsync") == 0) { /* fsync FILE */
    printf("%lld", result(fsync(files[slot(1)])));
  } else if (strcmp(call, "mmap") == 0) { /* mmap MAP FILE OFFSET LENGTH PROT FLAGS */
    char *at = mmap(NULL, (size_t)number(4), (int)number(5), (int)number(6), files[slot(2)], number(3));
    printf("%lld", result(at == MAP_FAILED ? -1 : 0));
    maps[slot(1)] = at;
    lengths[slot(1)] = (size_t)number(4);
  } else if (strcmp(call, "poke") == 0) { /* poke MAP OFFSET LENGTH FILL */
    memset(maps[slot(1)] + number(2), (int)number(4), (size_t)number(3));
    printf("0");
  } else if (strcmp(call, "peek") == 0) { /* peek MAP OFFSET LENGTH */
    printf("%lld ", number(3));
    show(maps[slot(1)] + number(2), number(3));
  } else if (strcmp(call, "msync") == 0) { /* msync MAP */
    printf("%lld", result(msync(maps[slot(1)], lengths[slot(1)], MS_SYNC)));
  } else if (strcmp(call, "munmap") == 0) { /* munmap MAP */
    printf("%lld", result(munmap(maps[slot(1)], lengths[slot(1)])));
  } else {
    printf("%d", -ENOSYS);
  }
  free(whole);
}

int main(void) {
  char *line = NULL;
  size_t room = 0;
  while (getline(&line, &room, stdin) > 0) {
    char *rest = line;
    for (int i = 0; i < WORDS; i++) words[i] = strtok_r(i == 0 ? line : NULL, " \n", &rest);
    if (words[0] == NULL) continue;
    answer(words[0]);
    printf("\n");
    fflush(stdout);
  }
  return 0;
}
