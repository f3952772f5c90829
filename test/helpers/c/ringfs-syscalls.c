/*
 * An agent of the torture test: does the system calls that it is told, exactly as asked, in the folder where it was
 * started, and says how each ended. One command a line on stdin, words separated by spaces, names with %XX escapes. The
 * answer is any number of lines that begin with '|', then `OK words` or `ERR number`. What follows a '#' in an answer is
 * for the caller's own use: it differs from one file system to another. Ends with stdin.
 *
 * Started as root it can become any user (`as`), and root again.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 32, WORDS_MAX = 24, PIECE = 1 << 20, ALIGN = 4096, XATTR_BYTES_MAX = 1 << 16 };

static int slots[SLOTS];
static char *words[WORDS_MAX];
static int count;
static unsigned char *buffer; /* PIECE bytes, aligned for O_DIRECT */

/* ---- words ---- */

static int hex(int c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

static void decode(char *text) {
  char *to = text;
  for (; *text; text++) {
    if (*text == '%' && text[1] && text[2]) {
      *to++ = (char)(hex(text[1]) * 16 + hex(text[2]));
      text += 2;
    } else {
      *to++ = *text;
    }
  }
  *to = 0;
}

static void put_name(const char *name) {
  for (; *name; name++) {
    unsigned char c = (unsigned char)*name;
    if (c <= ' ' || c == '%' || c == '#' || c >= 127) printf("%%%02X", c);
    else putchar(c);
  }
}

static int64_t number(int at) { return strtoll(words[at], NULL, 10); }
static mode_t octal(int at) { return (mode_t)strtoul(words[at], NULL, 8); }

static int *slot(int at) { return &slots[(uint64_t)number(at) % SLOTS]; }

static bool ok(const char *format, ...) {
  va_list list;
  va_start(list, format);
  fputs("OK ", stdout);
  vprintf(format, list);
  va_end(list);
  putchar('\n');
  return true;
}

/** For calls that answer 0 or -1. */
static bool done(int result) { return result == 0 && ok("%s", ""); }

struct flag {
  const char *name;
  int value;
};

static const struct flag open_flags[] = {
    {"r", O_RDONLY},         {"w", O_WRONLY},       {"rw", O_RDWR},
    {"creat", O_CREAT},      {"excl", O_EXCL},      {"trunc", O_TRUNC},
    {"append", O_APPEND},    {"sync", O_SYNC},      {"dsync", O_DSYNC},
    {"direct", O_DIRECT},    {"dir", O_DIRECTORY},  {"nofollow", O_NOFOLLOW},
    {"tmpfile", O_TMPFILE},  {"nonblock", O_NONBLOCK}, {NULL, 0}};
static const struct flag allocate_flags[] = {{"keep", FALLOC_FL_KEEP_SIZE},
                                             {"punch", FALLOC_FL_PUNCH_HOLE},
                                             {"zero", FALLOC_FL_ZERO_RANGE},
                                             {"collapse", FALLOC_FL_COLLAPSE_RANGE},
                                             {"insert", FALLOC_FL_INSERT_RANGE},
                                             {NULL, 0}};
static const struct flag rename_flags[] = {{"noreplace", RENAME_NOREPLACE}, {"exchange", RENAME_EXCHANGE}, {NULL, 0}};
static const struct flag flock_flags[] = {
    {"sh", LOCK_SH}, {"ex", LOCK_EX}, {"un", LOCK_UN}, {"nb", LOCK_NB}, {NULL, 0}};
static const struct flag node_types[] = {{"file", S_IFREG},  {"fifo", S_IFIFO},  {"socket", S_IFSOCK},
                                         {"char", S_IFCHR}, {"block", S_IFBLK}, {NULL, 0}};

/** `a,b`; `-` is none. */
static int flags_of(const struct flag *table, int at) {
  int flags = 0;
  for (char *name = strtok(words[at], ","); name; name = strtok(NULL, ",")) {
    for (const struct flag *row = table; row->name; row++)
      if (strcmp(row->name, name) == 0) flags |= row->value;
  }
  return flags;
}

/* ---- contents: value i of a write is a function of its seed and i, and never 0; the same in test/torture/pattern.ts ---- */

static void fill(unsigned char *to, size_t length, uint32_t seed, uint64_t from) {
  for (size_t i = 0; i < length; i++) {
    uint32_t x = seed + (uint32_t)(from + i) * 0x9E3779B1u;
    x ^= x >> 15;
    to[i] = (unsigned char)(x % 255 + 1);
  }
}

struct hash {
  uint64_t value;
};

static void hash_add(struct hash *hash, const unsigned char *data, size_t length) {
  uint64_t value = hash->value;
  for (size_t i = 0; i < length; i++) value = (value ^ data[i]) * 1099511628211u;
  hash->value = value;
}

static const struct hash hash_start = {14695981039346656037u};

static bool is_zero(const unsigned char *data, size_t length) {
  return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}

/* ---- who ---- */

static bool become(uid_t uid, gid_t gid, const gid_t *groups, size_t groups_count) {
  if (setresuid(0, 0, 0) != 0) return false;
  if (setgroups(groups_count, groups) != 0 || setresgid(gid, gid, 0) != 0) return false;
  return setresuid(uid, uid, 0) == 0;
}

/* as UID GID GROUP… */
static bool do_as(void) {
  gid_t groups[WORDS_MAX];
  for (int i = 3; i < count; i++) groups[i - 3] = (gid_t)number(i);
  return done(become((uid_t)number(1), (gid_t)number(2), groups, (size_t)(count - 3)) ? 0 : -1);
}

static bool do_cd(void) { return done(chdir(words[1])); }

static bool do_umask(void) {
  umask(octal(1));
  return done(0);
}

/* ---- open files ---- */

static const char *type_name(mode_t mode) {
  if (S_ISREG(mode)) return "file";
  if (S_ISDIR(mode)) return "dir";
  if (S_ISLNK(mode)) return "link";
  if (S_ISFIFO(mode)) return "fifo";
  if (S_ISSOCK(mode)) return "socket";
  return S_ISCHR(mode) ? "char" : "block";
}

/* open SLOT PATH FLAGS MODE. When what was open there cannot be closed well, nothing is opened, and it is that which failed. */
static bool do_open(void) {
  int *at = slot(1);
  int before = *at;
  *at = -1;
  if (before >= 0 && close(before) != 0) return false;
  *at = open(words[2], flags_of(open_flags, 3) | O_CLOEXEC, octal(4));
  struct stat stat;
  if (*at < 0 || fstat(*at, &stat) != 0) return false;
  return ok("#%" PRIu64 " %d %s", (uint64_t)stat.st_ino, *at, type_name(stat.st_mode));
}

static bool do_close(void) {
  int *at = slot(1);
  int fd = *at;
  *at = -1;
  return done(close(fd));
}

/* One call: the piece fits in one buffer, or is allocated. */
static unsigned char *room(size_t length) {
  if (length <= PIECE) return buffer;
  void *big = NULL;
  return posix_memalign(&big, ALIGN, length) == 0 ? big : NULL;
}

static void free_room(unsigned char *memory) {
  if (memory != buffer) free(memory);
}

/* After a write: how much, and for the caller the end of it in the file. pwrite appends, too, under O_APPEND. */
static bool wrote(int fd, ssize_t written, off_t offset) {
  if (written < 0) return false;
  struct stat stat;
  bool appends = (fcntl(fd, F_GETFL) & O_APPEND) != 0 && fstat(fd, &stat) == 0;
  off_t end = appends ? stat.st_size : offset >= 0 ? offset + written : lseek(fd, 0, SEEK_CUR);
  return ok("%zd #%" PRId64, written, (int64_t)end);
}

/* pwrite SLOT OFFSET LENGTH SEED; write SLOT LENGTH SEED */
static bool do_write(void) {
  bool at_offset = words[0][0] == 'p';
  size_t length = (size_t)number(at_offset ? 3 : 2);
  unsigned char *data = room(length);
  fill(data, length, (uint32_t)number(at_offset ? 4 : 3), 0);
  ssize_t written = at_offset ? pwrite(*slot(1), data, length, number(2)) : write(*slot(1), data, length);
  free_room(data);
  return wrote(*slot(1), written, at_offset ? number(2) : -1);
}

/* pwritev SLOT OFFSET SEED LENGTH… */
static bool do_pwritev(void) {
  struct iovec pieces[WORDS_MAX];
  size_t used = 0;
  for (int i = 4; i < count; i++) {
    size_t length = (size_t)number(i) % (PIECE / WORDS_MAX);
    pieces[i - 4] = (struct iovec){buffer + used, length};
    used += length;
  }
  fill(buffer, used, (uint32_t)number(3), 0);
  return wrote(*slot(1), pwritev(*slot(1), pieces, count - 4, number(2)), number(2));
}

/* pread SLOT OFFSET LENGTH; read SLOT LENGTH */
static bool do_read(void) {
  bool at_offset = words[0][0] == 'p';
  size_t length = (size_t)number(at_offset ? 3 : 2);
  unsigned char *data = room(length);
  ssize_t got = at_offset ? pread(*slot(1), data, length, number(2)) : read(*slot(1), data, length);
  struct hash hash = hash_start;
  if (got > 0) hash_add(&hash, data, (size_t)got);
  free_room(data);
  return got >= 0 && ok("%zd %016" PRIx64, got, hash.value);
}

/* text SLOT LENGTH: what is read, as it is, escaped; append SLOT TEXT: one write of it */
static bool do_text(void) {
  size_t length = (size_t)number(2);
  unsigned char *data = calloc(1, length + 1);
  ssize_t got = pread(*slot(1), data, length, 0);
  if (got >= 0) {
    fputs("OK ", stdout);
    put_name((char *)data);
    putchar('\n');
  }
  free(data);
  return got >= 0;
}

static bool do_append(void) {
  ssize_t written = write(*slot(1), words[2], strlen(words[2]));
  return written >= 0 && ok("%zd", written);
}

/* seek SLOT OFFSET set|cur|end */
static bool do_seek(void) {
  struct stat stat;
  if (fstat(*slot(1), &stat) == 0 && S_ISDIR(stat.st_mode)) return ok("%s", "its places are its own");
  int whence = words[3][0] == 's' ? SEEK_SET : words[3][0] == 'c' ? SEEK_CUR : SEEK_END;
  off_t at = lseek(*slot(1), number(2), whence);
  return at >= 0 && ok("%" PRId64, (int64_t)at);
}

/* The part [from, to) reads as zeros. */
static bool zeros(int fd, off_t from, off_t to) {
  for (off_t at = from; at < to;) {
    ssize_t got = pread(fd, buffer, (size_t)(to - at < PIECE ? to - at : PIECE), at);
    if (got <= 0 || !is_zero(buffer, (size_t)got)) return false;
    at += got;
  }
  return true;
}

/* sparse SLOT: SEEK_DATA and SEEK_HOLE cover the file, in order, and what they call a hole has no bytes. */
static bool do_sparse(void) {
  int fd = *slot(1);
  struct stat stat;
  if (pread(fd, buffer, 1, 0) < 0 || fstat(fd, &stat) != 0) return false; /* not readable, or no file */
  off_t before = lseek(fd, 0, SEEK_CUR);
  const char *verdict = "right";
  for (off_t at = 0; at < stat.st_size;) {
    off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return false;
    off_t hole_end = data < 0 ? stat.st_size : data;
    if (hole_end < at || !zeros(fd, at, hole_end)) verdict = "a hole has data";
    if (data < 0) break;
    off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole <= data || hole > stat.st_size) verdict = "no order";
    if (hole <= data) break;
    at = hole;
  }
  if (lseek(fd, stat.st_size, SEEK_DATA) >= 0 || errno != ENXIO) verdict = "data after the end";
  lseek(fd, before, SEEK_SET);
  return ok("%s", verdict);
}

static bool do_ftruncate(void) { return done(ftruncate(*slot(1), number(2))); }

/* truncate PATH LENGTH */
static bool do_truncate(void) {
  if (truncate(words[1], number(2)) != 0) return false;
  struct stat stat;
  return ok("#%" PRIu64, lstat(words[1], &stat) == 0 ? (uint64_t)stat.st_ino : 0);
}

/* fallocate SLOT FLAGS OFFSET LENGTH */
static bool do_fallocate(void) {
  return done(fallocate(*slot(1), flags_of(allocate_flags, 2), number(3), number(4)));
}

/* copy SLOT OFFSET SLOT OFFSET LENGTH: until all is copied or the source ends, as every caller does. */
static bool do_copy(void) {
  off_t from = number(2), to = number(4);
  size_t left = (size_t)number(5);
  ssize_t total = 0;
  while (left > 0) {
    ssize_t copied = copy_file_range(*slot(1), &from, *slot(3), &to, left, 0);
    if (copied < 0 && total == 0) return false;
    if (copied <= 0) break;
    total += copied;
    left -= (size_t)copied;
  }
  return ok("%zd", total);
}

/* sync SLOT full|data|fs */
static bool do_sync(void) {
  int fd = *slot(1);
  switch (words[2][1]) {
    case 'u': return done(fsync(fd));
    case 'a': return done(fdatasync(fd));
    default: return done(syncfs(fd));
  }
}

static unsigned char *map(int fd, off_t offset, size_t length, int protection, size_t *skip) {
  struct stat stat;
  if (fstat(fd, &stat) != 0) return NULL;
  if (!S_ISREG(stat.st_mode) || offset + (off_t)length > stat.st_size) {
    errno = ERANGE; /* would be SIGBUS */
    return NULL;
  }
  *skip = (size_t)(offset % ALIGN);
  void *memory = mmap(NULL, length + *skip, protection, MAP_SHARED, fd, offset - (off_t)*skip);
  return memory == MAP_FAILED ? NULL : memory;
}

/* mwrite SLOT OFFSET LENGTH SEED sync|later */
static bool do_mwrite(void) {
  size_t length = (size_t)number(3), skip;
  unsigned char *memory = map(*slot(1), number(2), length, PROT_READ | PROT_WRITE, &skip);
  if (!memory) return false;
  fill(memory + skip, length, (uint32_t)number(4), 0);
  int result = words[5][0] == 's' ? msync(memory, length + skip, MS_SYNC) : 0;
  munmap(memory, length + skip);
  return done(result);
}

/* mread SLOT OFFSET LENGTH */
static bool do_mread(void) {
  size_t length = (size_t)number(3), skip;
  unsigned char *memory = map(*slot(1), number(2), length, PROT_READ, &skip);
  if (!memory) return false;
  struct hash hash = hash_start;
  hash_add(&hash, memory + skip, length);
  munmap(memory, length + skip);
  return ok("%016" PRIx64, hash.value);
}

/* flock SLOT FLAGS */
static bool do_flock(void) { return done(flock(*slot(1), flags_of(flock_flags, 2))); }

/* lock SLOT posix|ofd r|w|un START LENGTH wait|try */
static bool do_lock(void) {
  short type = words[3][0] == 'r' ? F_RDLCK : words[3][0] == 'w' ? F_WRLCK : F_UNLCK;
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = number(4), .l_len = number(5)};
  bool ofd = words[2][0] == 'o', wait = words[6][0] == 'w';
  int command = ofd ? (wait ? F_OFD_SETLKW : F_OFD_SETLK) : (wait ? F_SETLKW : F_SETLK);
  return done(fcntl(*slot(1), command, &lock));
}

/* ---- attributes ---- */

/*
 * A set-gid bit of a file that the group may not execute has no effect. The kernel takes it away when somebody writes who is
 * not in the group; a FUSE server that takes away set-id bits (FUSE_HANDLE_KILLPRIV_V2) does not learn the caller's groups.
 */
static mode_t shown_mode(mode_t mode) {
  bool idle = S_ISREG(mode) && (mode & S_ISGID) && !(mode & S_IXGRP);
  return (idle ? mode & ~(mode_t)S_ISGID : mode) & 07777;
}

/* The size of a directory is its file system's own affair. */
static void put_stat(const struct stat *stat) {
  printf("%s %o %d:%d links=%d", type_name(stat->st_mode), shown_mode(stat->st_mode), (int)stat->st_uid, (int)stat->st_gid,
         (int)stat->st_nlink);
  if (!S_ISDIR(stat->st_mode)) printf(" size=%" PRId64, (int64_t)stat->st_size);
  if (S_ISCHR(stat->st_mode) || S_ISBLK(stat->st_mode)) printf(" dev=%d:%d", major(stat->st_rdev), minor(stat->st_rdev));
}

/* stat PATH; lstat PATH; fstat SLOT */
static bool do_stat(void) {
  struct stat stat_;
  char how = words[0][0];
  int result = how == 's'   ? stat(words[1], &stat_)
               : how == 'l' ? lstat(words[1], &stat_)
                            : fstat(*slot(1), &stat_);
  if (result != 0) return false;
  fputs("OK ", stdout);
  put_stat(&stat_);
  printf(" #%" PRIu64 "\n", (uint64_t)stat_.st_ino);
  return true;
}

static int64_t ns(struct timespec time) { return time.tv_sec * INT64_C(1000000000) + time.tv_nsec; }

static bool put_times(const struct stat *stat) {
  return ok("%" PRId64 " %" PRId64 " %" PRId64, ns(stat->st_atim), ns(stat->st_mtim), ns(stat->st_ctim));
}

/* times PATH; ftimes SLOT: atime, mtime, ctime in nanoseconds. Not of an open pipe: for FUSE the kernel does not keep what a write makes of them */
static bool do_times(void) {
  struct stat stat;
  bool by_path = words[0][0] == 't';
  int result = by_path ? lstat(words[1], &stat) : fstat(*slot(1), &stat);
  if (result != 0) return false;
  if (by_path || !S_ISFIFO(stat.st_mode)) return put_times(&stat);
  errno = ESPIPE;
  return false;
}

static struct timespec time_of(int at) {
  if (strcmp(words[at], "now") == 0) return (struct timespec){0, UTIME_NOW};
  if (strcmp(words[at], "omit") == 0) return (struct timespec){0, UTIME_OMIT};
  int64_t value = number(at), sec = value / 1000000000, nsec = value % 1000000000;
  return nsec < 0 ? (struct timespec){sec - 1, nsec + 1000000000} : (struct timespec){sec, nsec};
}

/* utimens PATH ATIME MTIME; futimens SLOT ATIME MTIME: nanoseconds, now or omit. Answers those that were set to a time. */
static bool do_utimens(void) {
  struct timespec times[2] = {time_of(2), time_of(3)};
  bool by_path = words[0][0] == 'u';
  int fd = by_path ? -1 : *slot(1);
  int result = by_path ? utimensat(AT_FDCWD, words[1], times, AT_SYMLINK_NOFOLLOW) : futimens(fd, times);
  if (result != 0) return false;
  struct stat stat;
  if ((by_path ? lstat(words[1], &stat) : fstat(fd, &stat)) != 0) return false;
  fputs("OK", stdout);
  if (words[2][0] != 'n' && words[2][0] != 'o') printf(" a=%" PRId64, ns(stat.st_atim));
  if (words[3][0] != 'n' && words[3][0] != 'o') printf(" m=%" PRId64, ns(stat.st_mtim));
  putchar('\n');
  return true;
}

static bool do_chmod(void) { return done(chmod(words[1], octal(2))); }
static bool do_fchmod(void) { return done(fchmod(*slot(1), octal(2))); }
static bool do_chown(void) { return done(chown(words[1], (uid_t)number(2), (gid_t)number(3))); }
static bool do_lchown(void) { return done(lchown(words[1], (uid_t)number(2), (gid_t)number(3))); }
static bool do_fchown(void) { return done(fchown(*slot(1), (uid_t)number(2), (gid_t)number(3))); }
static bool do_access(void) { return done(access(words[1], (int)number(2))); }

/* ---- names ---- */

static bool do_mkdir(void) { return done(mkdir(words[1], octal(2))); }
static bool do_rmdir(void) { return done(rmdir(words[1])); }
static bool do_unlink(void) { return done(unlink(words[1])); }
static bool do_link(void) { return done(linkat(AT_FDCWD, words[1], AT_FDCWD, words[2], 0)); }
/* symlink TARGET PATH */
static bool do_symlink(void) { return done(symlink(words[1], words[2])); }
/* rename FROM TO FLAGS */
static bool do_rename(void) {
  unsigned flags = (unsigned)flags_of(rename_flags, 3);
  return done(flags == 0 ? rename(words[1], words[2]) : renameat2(AT_FDCWD, words[1], AT_FDCWD, words[2], flags));
}

/* linkfd SLOT PATH: gives a file without a name one */
static bool do_linkfd(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", *slot(1));
  return done(linkat(AT_FDCWD, path, AT_FDCWD, words[2], AT_SYMLINK_FOLLOW));
}

/* mknod PATH file|fifo|socket|char|block MODE MAJOR MINOR */
static bool do_mknod(void) {
  mode_t bits = S_IFREG;
  for (const struct flag *row = node_types; row->name; row++)
    if (strcmp(row->name, words[2]) == 0) bits = (mode_t)row->value;
  return done(mknod(words[1], bits | octal(3), makedev((unsigned)number(4), (unsigned)number(5))));
}

static bool do_readlink(void) {
  char target[5000];
  ssize_t length = readlink(words[1], target, sizeof target - 1);
  if (length < 0) return false;
  target[length] = 0;
  fputs("OK ", stdout);
  put_name(target);
  putchar('\n');
  return true;
}

static int by_bytes(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int by_texts(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* list PATH */
static bool do_list(void) {
  struct dirent **entries;
  int found = scandir(words[1], &entries, NULL, by_bytes);
  if (found < 0) return false;
  for (int i = 0; i < found; i++) {
    fputs("| ", stdout);
    put_name(entries[i]->d_name);
    printf(" %d\n", entries[i]->d_type);
    free(entries[i]);
  }
  free(entries);
  return ok("%d", found);
}

/* ---- extended attributes ---- */

/* setx PATH NAME LENGTH SEED FLAGS: 0, 1 create, 2 replace */
static bool do_setx(void) {
  size_t length = (size_t)number(3) % (XATTR_BYTES_MAX + 1);
  fill(buffer, length, (uint32_t)number(4), 0);
  return done(lsetxattr(words[1], words[2], buffer, length, (int)number(5)));
}

/* setxhex PATH NAME HEX FLAGS */
static bool do_setxhex(void) {
  size_t length = strlen(words[3]) / 2;
  for (size_t i = 0; i < length && i < XATTR_BYTES_MAX; i++)
    buffer[i] = (unsigned char)(hex(words[3][2 * i]) * 16 + hex(words[3][2 * i + 1]));
  return done(lsetxattr(words[1], words[2], buffer, length, (int)number(4)));
}

static bool do_getx(void) {
  ssize_t length = lgetxattr(words[1], words[2], buffer, XATTR_BYTES_MAX);
  if (length < 0) return false;
  struct hash hash = hash_start;
  hash_add(&hash, buffer, (size_t)length);
  return ok("%zd %016" PRIx64, length, hash.value);
}

static bool do_rmx(void) { return done(lremovexattr(words[1], words[2])); }

/* The names, sorted; answers how many, or -1. What a security module adds is not the caller's. */
static int xattrs_of(const char *path, char **names, int max) {
  static char list[XATTR_BYTES_MAX];
  ssize_t length = llistxattr(path, list, sizeof list);
  if (length < 0) return -1;
  int found = 0;
  for (char *name = list; name < list + length && found < max; name += strlen(name) + 1)
    if (strcmp(name, "security.selinux") != 0) names[found++] = name;
  qsort(names, (size_t)found, sizeof *names, by_texts);
  return found;
}

static bool do_listx(void) {
  char *names[512];
  int found = xattrs_of(words[1], names, 512);
  if (found < 0) return false;
  fputs("OK", stdout);
  for (int i = 0; i < found; i++) {
    putchar(' ');
    put_name(names[i]);
  }
  putchar('\n');
  return true;
}

/* ---- trees ---- */

static bool put_content(const char *path) {
  int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return false;
  struct hash hash = hash_start;
  ssize_t got;
  while ((got = read(fd, buffer, PIECE)) > 0) hash_add(&hash, buffer, (size_t)got);
  int error = errno;
  close(fd);
  errno = error;
  printf(" %016" PRIx64, hash.value);
  return got == 0;
}

static bool put_entry(const char *path, const struct stat *stat) {
  fputs("| ", stdout);
  put_name(path);
  putchar(' ');
  put_stat(stat);
  char target[5000];
  ssize_t length = S_ISLNK(stat->st_mode) ? readlink(path, target, sizeof target - 1) : 0;
  if (length < 0) return false;
  if (length > 0) {
    target[length] = 0;
    fputs(" -> ", stdout);
    put_name(target);
  }
  if (S_ISREG(stat->st_mode) && !put_content(path)) return false;
  char *names[512];
  int found = xattrs_of(path, names, 512);
  for (int i = 0; i < found; i++) {
    ssize_t bytes = lgetxattr(path, names[i], buffer, XATTR_BYTES_MAX);
    struct hash hash = hash_start;
    if (bytes > 0) hash_add(&hash, buffer, (size_t)bytes);
    putchar(' ');
    put_name(names[i]);
    printf("=%zd:%016" PRIx64, bytes, hash.value);
  }
  printf(" #%" PRIu64 "\n", (uint64_t)stat->st_ino);
  return true;
}

static bool put_tree(const char *path) {
  struct stat stat;
  if (lstat(path, &stat) != 0) return false;
  if (!put_entry(path, &stat)) {
    int error = errno;
    putchar('\n'); /* ends the line that was begun */
    errno = error;
    return false;
  }
  if (!S_ISDIR(stat.st_mode)) return true;
  struct dirent **entries;
  int found = scandir(path, &entries, NULL, by_bytes);
  if (found < 0) return false;
  bool good = true;
  for (int i = 0; i < found; i++) {
    const char *name = entries[i]->d_name;
    char below[8192];
    snprintf(below, sizeof below, "%s/%s", path, name);
    if (good && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) good = put_tree(below);
    free(entries[i]);
  }
  free(entries);
  return good;
}

/* tree PATH: a line for each entry, with everything but times */
static bool do_tree(void) { return put_tree(words[1]) && ok("%s", ""); }

/* ---- the loop ---- */

struct command {
  const char *name;
  int words; /* at least, the name included */
  bool (*run)(void);
};

static const struct command commands[] = {
    {"cd", 2, do_cd},           {"as", 3, do_as},           {"umask", 2, do_umask},         {"open", 5, do_open},
    {"close", 2, do_close},     {"pwrite", 5, do_write},        {"write", 4, do_write},
    {"pwritev", 5, do_pwritev}, {"pread", 4, do_read},          {"read", 3, do_read},
    {"text", 3, do_text},       {"append", 3, do_append},       {"seek", 4, do_seek},
    {"sparse", 2, do_sparse},   {"ftruncate", 3, do_ftruncate}, {"truncate", 3, do_truncate},
    {"fallocate", 5, do_fallocate}, {"copy", 6, do_copy},       {"sync", 3, do_sync},
    {"mwrite", 6, do_mwrite},   {"mread", 4, do_mread},         {"flock", 3, do_flock},
    {"lock", 7, do_lock},       {"stat", 2, do_stat},           {"lstat", 2, do_stat},
    {"fstat", 2, do_stat},      {"times", 2, do_times},         {"ftimes", 2, do_times},
    {"utimens", 4, do_utimens}, {"futimens", 4, do_utimens},    {"chmod", 3, do_chmod},
    {"fchmod", 3, do_fchmod},   {"chown", 4, do_chown},         {"lchown", 4, do_lchown},
    {"fchown", 4, do_fchown},   {"access", 3, do_access},       {"mkdir", 3, do_mkdir},
    {"rmdir", 2, do_rmdir},     {"unlink", 2, do_unlink},       {"link", 3, do_link},
    {"symlink", 3, do_symlink}, {"rename", 4, do_rename},       {"linkfd", 3, do_linkfd},
    {"mknod", 6, do_mknod},     {"readlink", 2, do_readlink},   {"list", 2, do_list},
    {"setx", 6, do_setx},       {"setxhex", 5, do_setxhex},     {"getx", 3, do_getx},           {"rmx", 3, do_rmx},
    {"listx", 2, do_listx},     {"tree", 2, do_tree},           {NULL, 0, NULL}};

static void split(char *line) {
  count = 0;
  for (char *word = strtok(line, " \n"); word && count < WORDS_MAX; word = strtok(NULL, " \n")) words[count++] = word;
  for (int i = 0; i < count; i++) decode(words[i]);
}

static void run(void) {
  for (const struct command *command = commands; command->name; command++) {
    if (count < command->words || strcmp(command->name, words[0]) != 0) continue;
    errno = 0;
    if (!command->run()) printf("ERR %d\n", errno);
    return;
  }
  printf("ERR %d\n", ENOSYS);
}

int main(void) {
  void *memory = NULL;
  if (posix_memalign(&memory, ALIGN, PIECE) != 0) return 1;
  buffer = memory;
  memset(slots, -1, sizeof slots);
  umask(022);
  signal(SIGPIPE, SIG_IGN); /* a pipe without readers is EPIPE */
  char *line = NULL;
  size_t capacity = 0;
  while (getline(&line, &capacity, stdin) > 0) {
    split(line);
    if (count > 0) run();
    fflush(stdout);
  }
  return 0;
}
